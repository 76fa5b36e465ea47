"""The only place that makes findings of the garbage collector: the numbers behind them are the same for all."""

from collections.abc import Mapping
from typing import Any

from perfkit.analysis import gc_advice
from perfkit.analysis.gc_case import Case, kind_json, prediction_json, summary
from perfkit.analysis.gc_model import Prediction
from perfkit.analysis.survival import Place
from perfkit.analysis.switchback import Effect
from perfkit.findings import Finding, Site, Verdict

WORTH_TUNING = 0.05
"""Share of time in collections from which on it is worth tuning."""


def site_of_place(place: Place | None) -> Site | None:
    """Return a place as findings hold it."""
    return Site(place.function, place.file, place.line) if place else None


def change_text(effect: Effect, unit: str) -> str:
    """Return a difference with its interval, such as "-1.2 ms (-2 to -0.4 ms)"."""
    low, estimate, high = (
        f"{value:+.1%}".replace("%", " %") if unit == "ratio" else f"{value:+.3g} {unit}"
        for value in (effect.low, effect.estimate, effect.high)
    )
    return f"{estimate} ({low} to {high})"


def gc_finding(
    case: Case,
    verdict: Verdict,
    class_: str,
    title: str,
    hint: str,
    *,
    measured: float | None = None,
    limit: float | None = None,
    unit: str = "ratio",
    site: Site | None = None,
    type_: str | None = None,
    confidence: float | None = None,
    garbage: bool = False,
    advice: gc_advice.Advice | None = None,
    prediction: Prediction | None = None,
    needs: tuple[str, ...] = (),
    more: Mapping[str, Any] | None = None,
) -> Finding:
    """Return a finding about a process, with the numbers behind it."""
    evidence: Mapping[str, Any] = summary(case)
    more = dict(more or {})
    if garbage:
        more["garbage"] = [kind_json(kind) for kind in case.garbage.kinds[:8]]
    if advice is not None:
        more["recommendation"] = advice.to_dict()
    if prediction is not None:
        more["predicted"] = prediction_json(prediction)
    return Finding(
        rule="gc_tuning",
        verdict=verdict,
        class_=class_,
        title=title,
        hint=hint,
        measured=case.costs.ratio if measured is None else measured,
        limit=WORTH_TUNING if limit is None else limit,
        unit=unit,
        confidence=confidence,
        site=site,
        type=type_,
        pid=case.pid,
        evidence={**evidence, **more},
        needs=needs,
    )


def not_identifiable(pid: int | None, title: str, needs: tuple[str, ...]) -> Finding:
    """Return that nothing can be said."""
    hint = f"Record again: it takes {needs[0]}." if needs else "Record again."
    return Finding("gc_tuning", Verdict.UNDECIDED, "not_identifiable", title, hint, pid=pid, needs=needs)
