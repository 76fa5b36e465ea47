"""What is wrong, in one word and one sentence?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perfkit.findings import Finding, Verdict
from perfkit.units import percent_text, value_text
from perfkit.views.display import Badge, Cell, Chain, Estimate, Place, PlainTable, marked

_OF_THE_RECORDING = "lossy_recording"
_WORST_FIRST = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The answer of a whole report: the worst verdict, and the finding that stands for it."""

    verdict: str
    sentence: str
    finding: Finding | None


def conclude(findings: Sequence[Finding], first: Sequence[str] = ()) -> Conclusion:
    """Return what the findings say to the question of a report.

    The rules that the report is about decide; any other only when none of them looked at the
    recording, or when the recording is too bad for their answer to be believed.

    Args:
        findings: answers of the rules.
        first: rules that the report is about, the first named first when several are equally bad.
    """
    place = {rule: number for number, rule in enumerate(first)}
    own = [finding for finding in findings if finding.rule in place]
    spoilt = [finding for finding in findings if finding.rule == _OF_THE_RECORDING and finding.verdict is Verdict.FAIL]
    ranked = sorted(
        [*own, *spoilt] if own else findings,
        key=lambda f: (_WORST_FIRST.index(f.verdict), place.get(f.rule, len(place)), f.rule, f.pid or 0),
    )
    if not ranked:
        return Conclusion(str(Verdict.UNDECIDED), "No rule looked at this recording.", None)
    return Conclusion(str(ranked[0].verdict), ranked[0].title, ranked[0])


def findings_table(findings: Sequence[Finding]) -> PlainTable:
    """Return one row per finding: verdict, rule, what it says, what was measured and what is allowed."""
    rows: list[list[Cell]] = [
        [
            Badge(str(finding.verdict)),
            finding.rule.replace("_", " "),
            finding.title,
            value_text(finding.measured, finding.unit),
            value_text(finding.limit, finding.unit),
            percent_text(finding.confidence),
        ]
        for finding in findings
    ]
    headers = ("verdict", "rule", "what it says", "measured", "limit", "confidence")
    return PlainTable(headers, rows, numbers=frozenset({"measured", "limit", "confidence"}))


def evidence_table(finding: Finding) -> PlainTable | None:
    """Return where a defect is and how fast it acts, one fact per row; None when the finding names nothing."""
    rows: list[list[Cell]] = []
    if finding.rate_bytes_per_s:
        rows.append(["grows by", _estimate(finding.rate_bytes_per_s, "bytes/s")])
    if finding.seconds_to_limit and finding.seconds_to_limit[1] is not None:
        rows.append([finding.limit_label, _estimate(finding.seconds_to_limit, "s")])
    if finding.type:
        rows.append(["type", Place(finding.type)])
    if finding.site:
        rows.append([finding.site_label, Place(finding.site.function, finding.site.file, finding.site.line)])
    if finding.insertion and finding.insertion != finding.site:
        rows.append(["stored by", Place(finding.insertion.function, finding.insertion.file, finding.insertion.line)])
    if finding.retainer:
        rows.append(["kept alive by", Chain(tuple(finding.retainer))])
    return PlainTable(("", ""), rows) if rows else None


def _estimate(interval: Sequence[float | None], unit: str) -> Estimate:
    """Return an estimate with its interval; an end that is None is open."""
    low, estimate, high = interval
    low_text = value_text(low, unit)
    high_text = "never" if high is None and unit == "s" else value_text(high, unit)
    return Estimate(value_text(estimate, unit), f"95 % interval: {low_text} to {high_text}")


@dataclass(frozen=True, slots=True)
class VerdictView:
    """A badge, one sentence, and the findings behind them."""

    conclusion: Conclusion
    findings: Sequence[Finding]

    @property
    def pid(self) -> int:
        """Return the process that the verdict is about; 0 when it is not about one."""
        return (self.conclusion.finding.pid if self.conclusion.finding else None) or 0

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        badge, sentence = Badge(self.conclusion.verdict), self.conclusion.sentence
        hint = self.conclusion.finding.hint if self.conclusion.finding else ""
        table = findings_table(self.findings)
        html = (
            f'<p class="pk-verdict">{badge.html()} <strong>{marked(sentence)}</strong></p>'
            f'<p class="pk-note">{marked(hint)}</p>{table.html()}'
        )
        return {"text/html": html, "text/plain": f"{badge.text().upper()}: {sentence}\n{hint}\n\n{table.text()}"}


def verdict(findings: Sequence[Finding], *, first: Sequence[str] = ()) -> VerdictView:
    """Return the verdict of these findings as a badge and a sentence, with one row per finding below.

    Args:
        findings: answers of the rules, from `perfkit.check`.
        first: rules to be named before others when several are equally bad.
    """
    return VerdictView(conclude(findings, first), findings)
