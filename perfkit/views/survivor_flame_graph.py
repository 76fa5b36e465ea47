"""Which paths of calls allocated what is still alive?"""

from perfkit.analysis.stacks import weights_of_stacks
from perfkit.analysis.survival import places
from perfkit.profile import Profile
from perfkit.views.display import Note
from perfkit.views.flame_graph import LEAST, FlameGraph, flame_graph, weighted_stacks
from perfkit.views.selection import chosen_pid, chosen_warmup_s


def survivor_flame_graph(
    profile: Profile, *, pid: int | None = None, warmup_s: float | None = None, least: float = LEAST
) -> FlameGraph | Note:
    """Return who allocated the bytes that were still alive at the end, as a flame graph by line.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        warmup_s: what was allocated before is left out, in seconds; None or negative: found from the data.
        least: frames below this share of everything are not drawn.
    """
    pid = chosen_pid(profile, pid)
    after_ns = int(chosen_warmup_s(profile, pid, warmup_s) * 1e9) + 1
    weights = weights_of_stacks(profile, "heap", pid=pid, from_ns=after_ns)
    weights = weights[weights["stack_id"].isin(list(places(profile)))]
    if weights.empty:
        return Note("Nothing was recorded: no traced allocation made after the warm-up was still alive at the end.")
    stacks = weighted_stacks(profile, weights, lines=True)
    return flame_graph(stacks, unit="bytes", label="Living bytes by the stack that allocated them", least=least)
