"""Which setting was better when it was tried on the live process?"""

from collections.abc import Mapping

from perfkit.analysis.gc_trial import OUTCOMES, Experiment, Explained
from perfkit.analysis.switchback import Effect
from perfkit.profile import Profile
from perfkit.units import value_text
from perfkit.views.display import Cell, Estimate, Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case

_EXPLAINED = {
    Explained.YES: "The two agree.",
    Explained.LESS: "The requests gained less: collections were not what made them slow.",
    Explained.MORE: "The requests gained more: something else changed, too.",
}
_SHOWN = ("time_ratio", "p99_ms", "answered_per_s", "lag_p99_ms", "rss_bytes", "descriptors")


def gc_experiment(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return the measured effect of each setting that an experiment tried, each with its interval.

    The first row is the noise: the present setting compared with itself. What a setting changes
    counts only when it is more than that.
    """
    pid = chosen_pid(profile, pid)
    case = gc_case(profile, pid)
    if case is None:
        return Note("Nothing was recorded: it takes `perfkit experiment gc` to try settings.")
    if case.experiment is None:
        return Note(f"No setting was tried in this recording. To try some: perfkit experiment gc --pid {pid}")
    return _table(case.experiment)


def _table(tried: Experiment) -> PlainTable:
    """Return one row per setting, one column per outcome that was measured."""
    measured = {name for trial in tried.trials for name in trial.effects}
    names = [name for name in _SHOWN if name in measured]
    rows: list[list[Cell]] = [["noise: the present setting twice", *_cells(tried.noise, names), ""]]
    for trial in tried.trials:
        harms = ", ".join(OUTCOMES[name][0] for name in tried.harms(trial))
        verdict = "better" if tried.is_better(trial) else f"worse: {harms}" if harms else "no clear difference"
        rows.append([trial.setting, *_cells(trial.effects, names), verdict])
    notes = [
        f"{tried.windows} windows. Differences from the present setting, with their 95 % interval over the blocks."
    ]
    notes += [
        f"{trial.setting}: if pauses are the cause, p99 changes by {_signed(trial.predicted_ms[1], 'ms')} "
        f"({_signed(trial.predicted_ms[0], 'ms')} to {_signed(trial.predicted_ms[2], 'ms')}); measured: "
        f"{_text(trial.effects['p99_ms'], 'ms')}. {_EXPLAINED[trial.explained]}"
        for trial in tried.trials
        if trial.predicted_ms is not None and trial.explained is not None
    ]
    if tried.restored is not None:
        restored = (
            "were read back at the end as they were before" if tried.restored else "were NOT as before at the end"
        )
        notes.append(f"The settings of the process {restored}.")
    if tried.ended_early is not None:
        notes.append(f"The experiment ended early: {tried.ended_early}.")
    headers = ("setting", *(OUTCOMES[name][0] for name in names), "verdict")
    return PlainTable(headers, rows, numbers=frozenset(headers[1:-1]), notes=tuple(notes))


def _cells(effects: Mapping[str, Effect], names: list[str]) -> list[Cell]:
    """Return the cells of one row."""
    return [_estimate(effects[name], OUTCOMES[name][1]) if name in effects else None for name in names]


def _estimate(effect: Effect, unit: str) -> Estimate:
    """Return a difference with its interval and its p."""
    low, high = _signed(effect.low, unit), _signed(effect.high, unit)
    return Estimate(_signed(effect.estimate, unit), f"{low} to {high}, p {effect.p:.2g}")


def _text(effect: Effect, unit: str) -> str:
    """Return a difference and its interval on one line."""
    return f"{_signed(effect.estimate, unit)} ({_signed(effect.low, unit)} to {_signed(effect.high, unit)})"


def _signed(value: float, unit: str) -> str:
    """Return a difference with its sign; what rounds to nothing has none."""
    text = value_text(abs(value), "" if unit == "count" else unit)
    return f"{'+' if value > 0 else '−' if value < 0 else '±'}{text}"  # noqa: RUF001 - a minus, not a hyphen
