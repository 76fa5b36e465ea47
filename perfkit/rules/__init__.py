"""Rules, one per file, named after the defect they flag. A module here defines `RULE`."""

from functools import cache

from perfkit.findings import Rule
from perfkit.plugins import discover


@cache
def rules() -> dict[str, Rule]:
    """Return every rule by name."""
    import perfkit.rules as package

    return discover(package, "RULE", Rule)  # type: ignore[type-abstract]
