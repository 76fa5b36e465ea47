"""What would other settings do?"""

from perfkit.analysis.gc_model import STEPS, Model, Prediction
from perfkit.profile import Profile
from perfkit.units import bytes_text, percent_text, seconds_text, three_digits
from perfkit.views.display import Bar, Cell, Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case

_RARELY_PER_S = 1 / 86_400


def gc_predictions(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return one row per setting: predicted time in collections, full pauses, and what garbage would hold."""
    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collector gc_pauses to predict anything.")
    model = case.model
    if model is None or not model.counted_per_s:
        return Note("The collector did not start by itself while it was recorded, so there is nothing to predict.")
    now = model.raised(model.threshold)
    settings = [
        ("as it is now", _measured(model, now)),
        *((each.setting, each) for each in (model.raised(step) for step in STEPS if step > model.threshold)),
        ("gc.freeze()", model.frozen()),
    ]
    most = max(each.time_ratio for _, each in settings) or 1.0
    rows: list[list[Cell]] = [
        [
            f"{name}, above all that live for a moment" if name == f"gc.set_threshold({model.knee})" else name,
            Bar(percent_text(each.time_ratio), each.time_ratio / most),
            f"{three_digits(each.full_per_s)}/s" if each.full_per_s > _RARELY_PER_S else "none",
            seconds_text(each.full_pause_ms / 1e3) if each.full_per_s > _RARELY_PER_S else "",
            bytes_text(each.held_bytes) if case.garbage.looks else None,
            three_digits(each.held_descriptors) if case.garbage.looks else None,
        ]
        for name, each in settings
    ]
    headers = (
        "setting",
        "time in collections",
        "full passes",
        "each takes",
        "memory held by garbage",
        "descriptors held",
    )
    command = f"perfkit experiment gc --pid {case.pid}"
    notes = (f"Predicted, not measured: only an experiment on the live process can prove it ({command}).",)
    return PlainTable(headers, rows, numbers=frozenset(headers[1:]), notes=notes)


def _measured(model: Model, now: Prediction) -> Prediction:
    """Return the setting as it is: what was measured, and what garbage holds at it."""
    return Prediction(
        now.setting,
        model.costs.automatic_ratio,
        now.full_per_s,
        now.full_pause_ms,
        now.held_bytes,
        now.held_descriptors,
    )
