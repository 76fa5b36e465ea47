"""The only place that shows the settings that an experiment tried, whatever kind it was."""

from collections.abc import Iterable, Mapping, Sequence

from perfkit.analysis.switchback import Effect
from perfkit.analysis.trial import Experiment
from perfkit.units import value_text
from perfkit.views.display import Cell, Estimate, PlainTable


def trials_table(tried: Experiment, shown: Sequence[str], notes: Iterable[str] = ()) -> PlainTable:
    """Return one row per setting, one column per outcome that was measured; the first row is the noise.

    Args:
        tried: the experiment.
        shown: outcomes to show, in this order.
        notes: more sentences below.
    """
    measured = {name for trial in tried.trials for name in trial.effects}
    names = [name for name in shown if name in measured]
    rows: list[list[Cell]] = [["noise: the present setting twice", *_cells(tried, tried.noise, names), ""]]
    for trial in tried.trials:
        harms = ", ".join(tried.outcomes[name].title for name in tried.harms(trial))
        verdict = "better" if tried.is_better(trial) else f"worse: {harms}" if harms else "no clear difference"
        rows.append([trial.setting, *_cells(tried, trial.effects, names), verdict])
    said = [
        f"{tried.windows} windows. Differences from the present setting, with their 95 % interval over the blocks.",
        *notes,
    ]
    if tried.restored is not None:
        restored = (
            "were read back at the end as they were before" if tried.restored else "were NOT as before at the end"
        )
        said.append(f"The settings of the process {restored}.")
    if tried.ended_early is not None:
        said.append(f"The experiment ended early: {tried.ended_early}.")
    headers = ("setting", *(tried.outcomes[name].title for name in names), "verdict")
    return PlainTable(headers, rows, numbers=frozenset(headers[1:-1]), notes=tuple(said))


def difference_text(effect: Effect, unit: str) -> str:
    """Return a difference and its interval on one line."""
    return f"{signed(effect.estimate, unit)} ({signed(effect.low, unit)} to {signed(effect.high, unit)})"


def _cells(tried: Experiment, effects: Mapping[str, Effect], names: list[str]) -> list[Cell]:
    """Return the cells of one row."""
    return [_estimate(effects[name], tried.outcomes[name].unit) if name in effects else None for name in names]


def _estimate(effect: Effect, unit: str) -> Estimate:
    """Return a difference with its interval and its p."""
    low, high = signed(effect.low, unit), signed(effect.high, unit)
    return Estimate(signed(effect.estimate, unit), f"{low} to {high}, p {effect.p:.2g}")


def signed(value: float, unit: str) -> str:
    """Return a difference with its sign; what rounds to nothing has none."""
    text = value_text(abs(value), "" if unit == "count" else unit)
    return f"{'+' if value > 0 else '−' if value < 0 else '±'}{text}"  # noqa: RUF001 - a minus, not a hyphen
