"""`perfkit compare`: what changed from one recording to another, and whether anything got worse.

The JSON form, schema 1, is as stable as findings.json: keys are added, never changed.
`verdict` is "regression" when a judged number is worse, else "improvement" when one is better
or a leak is fixed, else "cannot_tell" when nothing could be judged, else "same". Intervals are
[low, estimate, high] at 95 %, or null.

```
{"schema": 1, "verdict": "regression|improvement|same|cannot_tell", "title": "...", "forced": false,
 "base": {"profile", "duration_s", "python", "program", "requests_per_s"}, "head": {the same},
 "differences": [{"what", "base", "head", "bearing": "refused|not_judged|noted", "because", "families": []}],
 "growth": [{"outcome": "fixed|better|same|worse|cannot_tell", "title", "of": "base|head|null", "because",
             "watched_s", "smallest_seen", "measure", "unit", "base": {"class", "verdict", "title", "rate_per_s",
             "retainer", "type", "site"}, "head": {the same}, "base_rate", "head_rate"}],
 "rows": [{"metric", "family", "unit", "subject": {"name", "file", "line"} or null, "base", "head", "scale":
           "ratio|difference", "change", "p", "smallest_seen", "outcome": "worse|better|same|cannot_tell", "because"}],
 "heap": {"paths": [{"name", "objects": [before, after], "size_bytes": [before, after]}], "holders": [...],
          "types": [...], "type_paces": [{"name", "file", "line", "unit", "base", "head"}], "line_paces": [...]}}
```
"""

from dataclasses import asdict, dataclass
from typing import Any

from perfkit.analysis.changes import Measured, Outcome
from perfkit.analysis.comparability import Bearing, Difference, differences, requests_per_s
from perfkit.analysis.comparison import METRICS, Row
from perfkit.analysis.comparison_cpu import cpu_rows
from perfkit.analysis.comparison_growth import Grower, GrowthChange, growth_changes
from perfkit.analysis.comparison_memory import HeapChange, heap_change, resident_rows
from perfkit.analysis.comparison_time import collector_rows, loop_rows, request_rows
from perfkit.analysis.disturbance import STANDS_OUT, Disturbance, disturbance
from perfkit.checks import check
from perfkit.errors import UsageError
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.views.comparison_text import growth_title, row_title

SCHEMA = 1
"""Version of the JSON form."""


class NotComparable(UsageError):
    """Two recordings whose comparison would be wrong; `differences` says why."""

    hint = "Record both the same way and long enough, or compare anyway with --force."

    def __init__(self, found: list[Difference]) -> None:
        super().__init__(f"not comparable: {'; '.join(map(str, found))}")
        self.differences = found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from `base` to `head`: growth of memory first, then what was measured, then what the heap holds."""

    base: Profile
    head: Profile
    differences: tuple[Difference, ...]
    forced: bool
    growth: tuple[GrowthChange, ...]
    rows: tuple[Row, ...]
    heap: HeapChange

    @property
    def outcomes(self) -> list[Outcome]:
        """Return what became of everything that is judged."""
        return [each.outcome for each in self.growth] + [each.outcome for each in self.rows]

    @property
    def is_regression(self) -> bool:
        """Whether anything that is judged is worse."""
        return Outcome.WORSE in self.outcomes

    @property
    def verdict(self) -> str:
        """Return regression, improvement, same or cannot_tell."""
        outcomes = set(self.outcomes)
        if self.is_regression:
            return "regression"
        if outcomes & {Outcome.BETTER, Outcome.FIXED}:
            return "improvement"
        return "same" if Outcome.SAME in outcomes else "cannot_tell"

    @property
    def title(self) -> str:
        """Return the answer in a sentence."""
        worse = [growth_title(each) for each in self.growth if each.outcome is Outcome.WORSE]
        worse += [row_title(each) for each in self.rows if each.outcome is Outcome.WORSE]
        good = [growth_title(each) for each in self.growth if each.outcome in (Outcome.FIXED, Outcome.BETTER)]
        good += [row_title(each) for each in self.rows if each.outcome is Outcome.BETTER]
        match self.verdict:
            case "regression":
                more = f", and {len(worse) - 1} more" if len(worse) > 1 else ""
                return f"Regression: {worse[0]}{more}"
            case "improvement":
                return f"Better: {good[0]}" + (f", and {len(good) - 1} more" if len(good) > 1 else "")
            case "same":
                unclear = self.outcomes.count(Outcome.CANNOT_TELL)
                rest = f"; {unclear} of {len(self.outcomes)} could not be judged" if unclear else ""
                return f"No regression: nothing got worse beyond noise{rest}"
        return "Cannot tell: nothing could be judged"


def compare(base: Profile, head: Profile, *, force: bool = False) -> Comparison:
    """Return what changed from one recording to another.

    Raises:
        NotComparable: the comparison would be wrong, and `force` is not given.
    """
    found = differences(base, head)
    refused = [each for each in found if each.bearing is Bearing.REFUSED]
    if refused and not force:
        raise NotComparable(refused)
    before, after = (_grower(profile) for profile in (base, head))
    loads = [requests_per_s(profile) for profile in (base, head)]
    ratio = loads[1] / loads[0] if loads[0] and loads[1] else None
    rows = [
        *request_rows(base, head),
        *loop_rows(base, head),
        *cpu_rows(base, head),
        *collector_rows(base, head),
        *resident_rows(base, head),
    ]
    reasons = {family: f"{each.what} differs" for each in reversed(found) for family in each.families}
    if before.fails or after.fails:
        reasons["resident_bytes"] = "it grows, so it depends on when it was recorded"
    judged = [_judged(each, reasons, (disturbance(base), disturbance(head))) for each in rows]
    return Comparison(
        base,
        head,
        tuple(found),
        bool(refused),
        tuple(growth_changes(base, head, before, after, ratio)),
        tuple(each for each in judged if each.outcome is not Outcome.CANNOT_TELL or each.subject is None),
        heap_change((base, head), (before.pid, after.pid), (before.since_s, after.since_s)),
    )


def to_json_form(comparison: Comparison) -> dict[str, Any]:
    """Return the stable form that `--json` prints; see the module."""
    return {
        "schema": SCHEMA,
        "verdict": comparison.verdict,
        "title": comparison.title,
        "forced": comparison.forced,
        "base": _profile_form(comparison.base),
        "head": _profile_form(comparison.head),
        "differences": [asdict(each) | {"bearing": str(each.bearing)} for each in comparison.differences],
        "growth": [_growth_form(each) for each in comparison.growth],
        "rows": [_row_form(each) for each in comparison.rows],
        "heap": _heap_form(comparison.heap),
    }


def _grower(profile: Profile) -> Grower:
    """Return what `memory_growth` says of the process that grows fastest."""
    findings = check(profile, "memory_growth")
    finding = min(findings, key=lambda each: (_severity(each), -(each.measured or 0.0)))
    site, evidence = finding.site, finding.evidence
    has_bytes = finding.rate_bytes_per_s is not None
    return Grower(
        pid=finding.pid if finding.pid is not None else -1,
        class_=finding.class_,
        title=finding.title,
        needs=finding.needs,
        fails=finding.verdict is Verdict.FAIL,
        passes=finding.verdict is Verdict.PASS,
        since_s=float(evidence.get("since_s", 0.0)),
        window_s=float(evidence.get("window_s", profile.duration_s)),
        gate_bytes_per_s=finding.limit if finding.limit is not None and finding.unit == "bytes/s" else 65_536 / 60,
        function=site.function if site else None,
        file=site.file if site else None,
        type=finding.type,
        retainer=finding.retainer,
        rate=finding.rate_bytes_per_s if has_bytes else None,
    )


def _severity(finding: Finding) -> int:
    """Return the order in which findings of several processes are looked at."""
    return [Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS].index(finding.verdict)


def _judged(each: Row, reasons: dict[str, str], busy: tuple[Disturbance | None, Disturbance | None]) -> Row:
    """Return a row without its verdict where how it was recorded, or a busy machine, stands in the way."""
    if reason := reasons.get(each.metric) or reasons.get(each.family):
        return each.not_judged(reason)
    if each.change is None:
        return each
    part, is_changed = METRICS[each.metric].part, each.outcome in (Outcome.WORSE, Outcome.BETTER)
    stands_out = each.change.low > STANDS_OUT or each.change.high < 1 / STANDS_OUT
    for side in (side for side in busy if side is not None):
        spoils_change = (part == "tail" and side.spoils_tails) or (
            part == "level" and side.spoils_levels and not stands_out
        )
        if (part != "size" and side.spoils_all) or (is_changed and spoils_change):
            return each.not_judged(str(side))
    return each


def _profile_form(profile: Profile) -> dict[str, Any]:
    """Return what a reader needs to know of a recording."""
    target = profile.manifest.targets[0] if profile.manifest.targets else {}
    return {
        "profile": profile.name,
        "duration_s": profile.duration_s,
        "python": target.get("python"),
        "program": target.get("program"),
        "requests_per_s": requests_per_s(profile),
    }


def _growth_form(change: GrowthChange) -> dict[str, Any]:
    """Return what became of growth."""
    rate = change.rate
    return {
        "outcome": str(change.outcome),
        "title": growth_title(change),
        "of": change.of,
        "because": change.because,
        "watched_s": change.watched_s,
        "smallest_seen": change.smallest_seen,
        "measure": rate.what if rate else None,
        "unit": rate.unit if rate else None,
        "base": _grower_form(change.base),
        "head": _grower_form(change.head),
        "base_rate": list(rate.base.interval) if rate else None,
        "head_rate": list(rate.head.interval) if rate else None,
    }


def _grower_form(grower: Grower) -> dict[str, Any]:
    """Return what the rule said of one recording."""
    return {
        "class": grower.class_,
        "verdict": str(Verdict.FAIL if grower.fails else Verdict.PASS if grower.passes else Verdict.UNDECIDED),
        "title": grower.title,
        "rate_bytes_per_s": list(grower.rate) if grower.rate else None,
        "retainer": list(grower.retainer),
        "type": grower.type,
        "site": {"function": grower.function, "file": grower.file} if grower.function else None,
    }


def _row_form(each: Row) -> dict[str, Any]:
    """Return one number before and after."""
    change = each.change
    return {
        "metric": each.metric,
        "family": each.family,
        "unit": each.unit,
        "subject": asdict(each.subject) if each.subject else None,
        "base": _interval(each.base),
        "head": _interval(each.head),
        "scale": change.scale if change else None,
        "change": list(change.interval) if change else None,
        "p": change.p if change else None,
        "smallest_seen": change.smallest_seen if change else None,
        "outcome": str(each.outcome),
        "because": each.because,
    }


def _interval(number: Measured | None) -> list[float] | None:
    """Return [low, estimate, high]."""
    return list(number.interval) if number else None


def _heap_form(heap: HeapChange) -> dict[str, Any]:
    """Return what there is more or less of."""
    form: dict[str, Any] = {
        name: [asdict(part) for part in getattr(heap, name)] for name in ("paths", "holders", "types")
    }
    for name in ("type_paces", "line_paces"):
        form[name] = [
            asdict(pace) | {"base": list(pace.base.interval), "head": list(pace.head.interval)}
            for pace in getattr(heap, name)
        ]
    return form
