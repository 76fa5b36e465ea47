"""Which setting of the collector was better when it was tried on the live process?"""

from perfkit.analysis.trial import Explained
from perfkit.profile import Profile
from perfkit.views.display import Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case
from perfkit.views.trials_table import difference_text, signed, trials_table

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
    notes = [
        f"{trial.setting}: if pauses are the cause, p99 changes by {signed(trial.predicted_ms[1], 'ms')} "
        f"({signed(trial.predicted_ms[0], 'ms')} to {signed(trial.predicted_ms[2], 'ms')}); measured: "
        f"{difference_text(trial.effects['p99_ms'], 'ms')}. {_EXPLAINED[trial.explained]}"
        for trial in case.experiment.trials
        if trial.predicted_ms is not None and trial.explained is not None
    ]
    return trials_table(case.experiment, _SHOWN, notes)
