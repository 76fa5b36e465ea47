"""The only place that tells a thread that runs from one that waits.

A stack cannot say it: `time.sleep(1)` and a busy C function look the same, and an event loop
that never rests is seen in `select` too. What the kernel measured can: the CPU time of each
thread, read five times a second, is shared out among the places where the thread was seen.
"""

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 60
_WAIT_PRIOR, _WAIT_SNAPSHOTS = 0.02, 1.0
"""How busy a known wait is thought to be, and how many snapshots that belief is worth: little, so that a thread
which never rests is believed to run though it is only ever seen in `select`."""
_OTHER_SNAPSHOTS = 0.5
"""How many snapshots the belief is worth that a thread seen anywhere else runs: it decides only where there is none."""
_SNAPSHOT_WEIGHT = 200.0
"""How many samples a snapshot is worth. Where a thread was is known to a tick, when it ran is known to the
microsecond; matched with each other, short bursts lose most of their CPU time to their neighbours (errors in
variables), and only the snapshots, which see both at once, know better."""
_LOOSE_TICKS = 2.0
"""How many samples of a cell may be there by chance: its CPU time is not forced on the few others that it has."""

_WAITS = {
    "threading.py": {"wait", "_wait_for_tstate_lock", "join", "acquire"},
    "selectors.py": {"select"},
    "queue.py": {"get"},
    "socket.py": {"accept", "readinto"},
    "subprocess.py": {"_try_wait", "_wait"},
    "socketserver.py": {"serve_forever"},
    "concurrent/futures/thread.py": {"_worker"},
    "multiprocessing/connection.py": {"_recv", "wait"},
    "multiprocessing/popen_fork.py": {"poll"},
}
"""Leaf functions of the standard library in which a thread waits. Source: py-spy's
`_heuristic_is_thread_idle` (python_spy.rs) knows `wait`, `select` and `poll`; the others are the frames of
their files that block in C. Not `run` of asyncio, where uvloop is seen: it works there as well."""


def is_known_wait(function: str, file: str, kind: str) -> bool:
    """Return whether a leaf frame is a place of the standard library where threads wait.

    >>> is_known_wait("Condition.wait", "threading.py", "stdlib")
    True
    >>> is_known_wait("wait", "app/orders.py", "python")
    False
    """
    return kind == "stdlib" and function.rpartition(".")[2] in _WAITS.get(file, ())


def prior_share(waits: bool, running: int = 0, seen: int = 0) -> tuple[float, float]:
    """Return how likely a thread at some place is running, and how many samples that is worth.

    Args:
        waits: the place is a known wait.
        running: in how many snapshots a thread at this place was running.
        seen: in how many snapshots a thread was at this place.

    >>> prior_share(waits=False), prior_share(waits=False, running=0, seen=2)
    ((1.0, 0.0), (0.2, 400.0))
    """
    base, weight = (_WAIT_PRIOR, _WAIT_SNAPSHOTS) if waits else (1.0, _OTHER_SNAPSHOTS)
    return (running + weight * base) / (seen + weight), (seen + weight * waits) * _SNAPSHOT_WEIGHT


def running_share(
    cell: NDArray[np.int64],
    place: NDArray[np.int64],
    prior: NDArray[np.float64],
    worth: NDArray[np.float64],
    cpu_ticks: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return for each sample how likely its thread was running, so that the sums agree with the CPU time.

    Each cell (one thread between two readings of its CPU time) has a number of samples, each at
    some place, and an amount of CPU time. The share of every place that explains all cells
    best is found by expectation maximisation from the prior, which decides between places that
    always come together; then each cell's CPU time is split by it.

    Args:
        cell: n numbers, the cell each sample is in.
        place: n numbers, where it was seen (the leaf frame).
        prior: per place, how likely a thread there is running, above 0.
        worth: per place, how many samples the prior is worth.
        cpu_ticks: per cell, its CPU time in units of one sample.

    Returns:
        n probabilities in [0, 1].

    Source: W. H. Richardson (1972), doi:10.1364/JOSA.62.000055 (the multiplicative update).
    """
    if not len(cell):
        return np.zeros(0)
    keys, entry = np.unique(cell * len(prior) + place, return_inverse=True)
    cells, places = keys // len(prior), keys % len(prior)
    samples = np.bincount(entry, minlength=len(keys)).astype(np.float64)
    seen = np.bincount(places, samples, minlength=len(prior))
    available = np.minimum(cpu_ticks, np.bincount(cells, samples, minlength=len(cpu_ticks)))
    share = prior
    ratio = np.ones_like(available)
    for _ in range(_ITERATIONS):
        explained = np.bincount(cells, samples * share[places], minlength=len(available))
        ratio = np.divide(available, explained, out=np.zeros_like(available), where=explained > 0)
        found = share * np.bincount(places, samples * ratio[cells], minlength=len(prior))
        known = seen + worth
        share = np.divide(found + worth * prior, known, out=prior.copy(), where=known > 0)
        share = np.minimum(1.0, share)
    explained = np.bincount(cells, samples * share[places], minlength=len(available))
    ratio = (available + _LOOSE_TICKS) / (explained + _LOOSE_TICKS)
    likely: NDArray[np.float64] = np.minimum(1.0, share[places] * ratio[cells])[entry]
    return likely


def diffuse(probability: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return yes or no for each sample, with as many yes per group as the probabilities add up to.

    The rounding error is carried to the next sample of the group, in place of a coin that
    would make two decodings of one recording differ.

    >>> diffuse(np.array([0.4, 0.4, 0.4, 0.4, 0.4]), np.zeros(5, np.int64)).tolist()
    [False, True, False, True, False]
    """
    order = np.argsort(group, kind="stable")
    total = np.cumsum(probability[order])
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) != 0]) if len(order) else np.zeros(0, np.int64)
    before = np.r_[0.0, total][starts]
    total = total - np.repeat(before, np.diff(np.r_[starts, len(order)]))
    steps = np.floor(total + 0.5)
    previous = np.r_[0.0, steps[:-1]] if len(order) else steps
    previous[starts] = 0.0
    answer = np.zeros(len(order), dtype=np.bool_)
    answer[order] = steps > previous
    return answer
