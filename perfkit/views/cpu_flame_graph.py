"""Which functions used the CPU time?"""

from perfkit.analysis.stacks import weights_of_stacks
from perfkit.profile import Profile
from perfkit.views.display import Note
from perfkit.views.flame_graph import LEAST, FlameGraph, flame_graph, weighted_stacks
from perfkit.views.selection import chosen_pid


def cpu_flame_graph(
    profile: Profile, *, pid: int | None = None, idle: bool = False, least: float = LEAST
) -> FlameGraph | Note:
    """Return where the CPU time went, as a flame graph with the functions that used most of it.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        idle: count waiting threads too.
        least: frames below this share of everything are not drawn.
    """
    weights = weights_of_stacks(profile, "cpu", pid=chosen_pid(profile, pid), active_only=not idle)
    if weights.empty:
        return Note("Nothing was recorded: the CPU sampler saw no running thread of this process.")
    return flame_graph(weighted_stacks(profile, weights), unit="ns", label="CPU time by function", least=least)
