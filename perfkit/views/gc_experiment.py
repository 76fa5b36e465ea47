"""Which setting was better when it was tried on the live process?"""

from perfkit.profile import Profile
from perfkit.views.display import Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case


def gc_experiment(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return the measured effect of each setting that an experiment tried, with its interval."""
    pid = chosen_pid(profile, pid)
    if gc_case(profile, pid) is None:
        return Note("Nothing was recorded: it takes `perfkit experiment gc` to try settings.")
    return Note(
        f"No setting was tried in this recording. To try some on the live process: perfkit experiment gc --pid {pid}."
    )
