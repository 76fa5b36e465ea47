"""What would change our mind, and what to do next?"""

from collections.abc import Sequence

from perfkit.findings import Finding, Verdict
from perfkit.units import percent_text
from perfkit.views.display import Badge, Cell, Note, PlainTable


def open_questions(findings: Sequence[Finding]) -> PlainTable | Note:
    """Return for each finding how sure it is and what more data would make it surer or turn it.

    Passes that no more data would turn are named in one sentence below.
    """
    settled = [finding for finding in findings if finding.verdict is Verdict.PASS and not finding.needs]
    rows: list[list[Cell]] = [
        [
            Badge(str(finding.verdict)),
            finding.rule.replace("_", " "),
            percent_text(finding.confidence),
            "; ".join(finding.needs) or "nothing: the data decide it",
        ]
        for finding in findings
        if finding not in settled
    ]
    if not findings:
        return Note("No rule looked at this recording, so there is nothing to change our mind about.")
    others = ""
    if settled:
        names = ", ".join(dict.fromkeys(finding.rule.replace("_", " ") for finding in settled))
        others = f"Passed, and the data decide it: {names}."
    if not rows:
        return Note(others)
    return PlainTable(
        ("verdict", "rule", "confidence", "what would change it"),
        rows,
        numbers=frozenset({"confidence"}),
        notes=(others,) if others else (),
    )


def next_steps(findings: Sequence[Finding]) -> PlainTable | Note:
    """Return what to do about each finding that is not a pass, the worst first."""
    rows: list[list[Cell]] = [
        [str(number), finding.hint or finding.title]
        for number, finding in enumerate((f for f in findings if f.verdict is not Verdict.PASS), start=1)
    ]
    if not rows:
        return Note("Nothing to do: every rule passed.")
    return PlainTable(("", "do this"), rows)
