"""Does garbage collection cost the service anything?"""

from perfkit.analysis.gc_case import Case
from perfkit.analysis.gc_costs import LONG_PAUSE_MS
from perfkit.profile import Profile
from perfkit.units import count_text, percent_text, seconds_text
from perfkit.views.display import Cell, Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case


def gc_cost(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return what collections cost, one plain question per row: time, pauses, requests.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collector gc_pauses to see collections.")
    costs = case.costs
    longest = max((each.max_ms for each in costs.generations), default=0.0)
    own = sum(each.collections for each in costs.generations)
    rows: list[list[Cell]] = [
        ["time that collections take", percent_text(costs.ratio), "5 % and more is worth tuning"],
        ["time that the service stood still for them", percent_text(costs.stopped_ratio), "waiting for a CPU included"],
        [
            "share of the CPU time that the process uses",
            percent_text(costs.cpu_ratio),
            "of those that the interpreter starts; 10 % and more is worth tuning, too",
        ],
        ["in the worst second", percent_text(costs.worst_second_ratio), "a burst that averages hide"],
        ["longest pause", seconds_text(longest / 1e3), f"of {count_text(own)} collections"],
        [
            f"time in pauses of {LONG_PAUSE_MS:.0f} ms and more",
            percent_text(costs.long_ratio),
            "from 1 % on, one request in a hundred meets one",
        ],
        *_requests(case),
    ]
    if costs.manual_ratio:
        rows.insert(1, ["of it, asked for by the program", percent_text(costs.manual_ratio), "calls of gc.collect()"])
    notes = []
    if costs.census_ratio:
        notes.append(
            f"perfkit collected by hand, too ({percent_text(costs.census_ratio)} of the time); "
            "that is not counted here."
        )
    if case.experiment is not None:
        notes.append("An experiment changed the settings meanwhile: the numbers are of all of them together.")
    return PlainTable(("question", "answer", "how to read it"), rows, numbers=frozenset({"answer"}), notes=tuple(notes))


def _requests(case: Case) -> list[list[Cell]]:
    """Return what it means for requests, or for the event loop where no requests were recorded."""
    met = case.overlap
    if met is None:
        return [["requests that met a pause", None, "no requests and no event loop were recorded"]]
    what = "requests" if met.of == "requests" else "callbacks of the event loop"
    rows: list[list[Cell]] = [
        [
            f"{what} that met a pause",
            percent_text(met.overlapped_ratio),
            f"{count_text(met.overlapped)} of {count_text(met.total)}",
        ]
    ]
    if met.p99_ms is not None and met.p99_without_ms is not None:
        wait = "latency" if met.of == "requests" else "delay"
        rows.append([f"99th percentile of their {wait}", seconds_text(met.p99_ms / 1e3), "as it was"])
        rows.append(
            [
                "the same without the pauses",
                seconds_text(met.p99_without_ms / 1e3),
                "what tuning wins at least: the queue behind a pause is still in it",
            ]
        )
    return rows
