"""Rules, one per file, named after the defect they flag. A module here defines `RULE`."""

from functools import cache
from typing import Any

from perfkit.findings import Finding, Rule, Verdict
from perfkit.plugins import discover


@cache
def rules() -> dict[str, Rule]:
    """Return every rule by name."""
    import perfkit.rules as package

    return discover(package, "RULE", Rule)  # type: ignore[type-abstract]


def undecided(rule: str, title: str, *needs: str, pid: int | None = None, **more: Any) -> Finding:
    """Return the answer of a rule that cannot tell; `needs` says what would decide it, and is the hint too."""
    hint = f"Record {needs[0]}." if needs else "Record again."
    return Finding(rule, Verdict.UNDECIDED, "undetermined", title, more.pop("hint", hint), pid=pid, needs=needs, **more)
