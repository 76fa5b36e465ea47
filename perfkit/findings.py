"""The only place that says what a finding is: the answer of one rule, for people and for machines."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from perfkit.profile import Profile

SCHEMA = 1
"""Version of the JSON form."""


class Verdict(StrEnum):
    """What a rule concludes. Too little or bad data is UNDECIDED, never PASS."""

    FAIL = "fail"
    UNDECIDED = "undecided"
    PASS = "pass"


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the code."""

    function: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Return the place as people write it.

        >>> str(Site("login", "app/views.py", 88))
        'login (app/views.py:88)'
        """
        if self.file is None:
            return self.function
        return f"{self.function} ({self.file}:{self.line})" if self.line else f"{self.function} ({self.file})"


_SITE_LABELS = {
    "manual_collect": "called by",
    "slow_finalizer": "runs in",
    "fix_cycles": "made in",
    "refuse_raise": "made in",
    "gc_debt": "made in",
    "thread_leak": "started by",
    **dict.fromkeys(
        (
            "checkout_leak",
            "ghost_slot",
            "pool_exhaustion",
            "self_deadlock",
            "lifetime_not_enforced",
            "stale_reuse",
            "gc_dependent_close",
        ),
        "taken at",
    ),
    "hold_inefficiency": "held at",
    "unbounded_wait": "waits at",
    "connection_churn": "opened by",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one rule over one profile.

    `measured` and `limit` share `unit`. `confidence` is the probability that the verdict is
    right, as far as the rule can tell. Intervals are (low, estimate, high) at 95 %. `needs`
    says what more data would decide it or make it surer. Plain text only: no HTML.
    """

    rule: str
    verdict: Verdict
    class_: str
    title: str
    hint: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""
    confidence: float | None = None
    site: Site | None = None
    insertion: Site | None = None
    retainer: tuple[str, ...] = ()
    type: str | None = None
    rate_bytes_per_s: tuple[float, float, float] | None = None
    seconds_to_limit: tuple[float | None, float | None, float | None] | None = None
    pid: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def site_label(self) -> str:
        """Return what the site is to the defect, for people."""
        return _SITE_LABELS.get(self.class_, "allocated in")

    @property
    def limit_label(self) -> str:
        """Return what is over after `seconds_to_limit`, for people."""
        if self.rule == "checkout_leak":
            return "pool used up in"
        limit = self.evidence.get("limit")
        source = limit.get("of") if isinstance(limit, Mapping) else None
        return f"{source} reached in" if source else "limit reached in"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding in its stable JSON form (`class_` is called `class`)."""
        raw = asdict(self)
        raw["class"] = raw.pop("class_")
        raw["verdict"] = str(self.verdict)
        return raw


@runtime_checkable
class Rule(Protocol):
    """A question asked of a profile.

    Its name is the module's and the defect it flags; its docstring is its page in the report
    and has the sections `Why it matters:`, `Evidence:` and `Limits:`.
    """

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process or thing judged; none where its kind of data was not asked for."""
        ...


def to_json_form(profile: str, findings: list[Finding]) -> dict[str, Any]:
    """Return the stable form that `--json` prints and findings.json holds."""
    return {"profile": profile, "schema": SCHEMA, "findings": [finding.to_dict() for finding in findings]}
