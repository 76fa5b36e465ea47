"""Which setting of a connection pool was better when it was tried on the live process?"""

from perfkit.analysis.pool_trial import pool_experiment as gather
from perfkit.profile import Profile
from perfkit.views.display import Note, PlainTable
from perfkit.views.selection import chosen_pid, pools_of
from perfkit.views.trials_table import trials_table

_SHOWN = ("wait_ms", "wait_p99_ms", "acquired_per_s", "created_ratio", "in_vain_ratio", "p99_ms", "open")


def pool_experiment(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return the measured effect of each setting that an experiment tried, each with its interval.

    The first row is the noise: the present setting compared with itself. What a setting changes
    counts only when it is more than that.
    """
    pid = chosen_pid(profile, pid)
    if not pools_of(profile, pid):
        return Note("Nothing was recorded: it takes `perfkit experiment pool` to try settings.")
    tried = gather(profile, pid)
    if tried is None:
        return Note(f"No setting was tried in this recording. To try sizes: perfkit experiment pool --pid {pid}")
    before = ", ".join(f"{name} {value}" for name, value in sorted(tried.before.items()) if value is not None)
    return trials_table(tried.experiment, _SHOWN, [f"The pool is {tried.pool.name}, with {before}."])
