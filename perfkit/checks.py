"""`perfkit check`: ask every rule of a profile."""

from perfkit.errors import UnknownName
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import rules

_ORDER = {Verdict.FAIL: 0, Verdict.UNDECIDED: 1, Verdict.PASS: 2}


def check(profile: Profile, only: str | None = None) -> list[Finding]:
    """Return the findings of all rules, or of one: failures first, then undecided, then passes.

    Raises:
        UnknownName: there is no rule named `only`.
    """
    known = rules()
    if only is not None and only not in known:
        raise UnknownName("rule", only, sorted(known))
    chosen = known if only is None else {only: known[only]}
    findings = [finding for rule in chosen.values() for finding in rule.check(profile)]
    return sorted(findings, key=lambda finding: (_ORDER[finding.verdict], finding.rule, finding.pid or 0))
