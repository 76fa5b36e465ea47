"""What should be changed, where, and what may go wrong?"""

from collections.abc import Sequence
from html import escape
from typing import Any

from perfkit.findings import Finding, Verdict
from perfkit.views.display import Cell, Note, PlainTable


class Recommendation:
    """Code to paste with its places, risks and what to watch."""

    def __init__(self, code: str, table: PlainTable) -> None:
        self.code = code
        self.table = table

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        html = f'<pre class="pk-code"><code>{escape(self.code)}</code></pre>{self.table.html()}'
        return {"text/html": html, "text/plain": f"{self.code}\n\n{self.table.text()}"}


def gc_recommendation(findings: Sequence[Finding]) -> Recommendation | Note:
    """Return the recommended setting as code; a sentence where none is recommended."""
    own = [finding for finding in findings if finding.rule == "gc_tuning"]
    advised = [finding for finding in own if "recommendation" in finding.evidence]
    if not advised:
        if any(finding.verdict is Verdict.FAIL for finding in own):
            return Note("No setting is recommended: what helps is a change of the code, named below.")
        if any(finding.verdict is Verdict.UNDECIDED for finding in own):
            return Note("No setting is recommended: what was recorded does not say which would be better.")
        return Note("Leave the settings as they are.")
    advice = advised[0].evidence["recommendation"]
    rows: list[list[Cell]] = [
        *(["where", each] for each in advice["where"]),
        *(["risk", each] for each in advice["risks"]),
        *(["watch after deploying", each] for each in advice["watch"]),
    ]
    return Recommendation(advice["code"], PlainTable(("", ""), rows))
