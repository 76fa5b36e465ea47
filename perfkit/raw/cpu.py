"""The only place that turns what py-spy and /proc left behind into CPU samples.

The raw folder of one process holds `window-NNN.json` (chrometrace) with `window-NNN.meta.json`,
`threads.csv` (CPU time per thread, five times a second) and `dumps.ndjson` (names, ids, GIL).
Any of them may be cut or missing; what is left is decoded and the note says what is not.
"""

from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perfkit.clock import Clock
from perfkit.raw.activity import diffuse, is_known_wait, prior_share, running_share
from perfkit.raw.chrometrace import Interval, on_grid
from perfkit.raw.pyspy_windows import Frames, Notes, Window, runs_in, windows_of
from perfkit.raw.threads import ThreadTimes, os_tids, snapshots, thread_times
from perfkit.symbols import Symbols
from perfkit.tables import CPU_SAMPLES, RECORDING_QUALITY

_USUAL_RATE_HZ = 100


def samples(
    folder: Path, pid: int, clock: Clock, symbols: Symbols, until_ns: int, *, collector: str
) -> dict[str, pa.Table]:
    """Return `cpu_samples` and one row of `recording_quality` of one process.

    Every thread has one row per tick of a grid of 1/rate that all threads and processes share,
    standing for the time until the next tick, so that weights add up to the time covered.
    `active` adds up to the CPU time that the kernel counted, per thread; which of the ticks of
    a short burst are active is an estimate (see `perfkit.raw.activity`).

    Args:
        folder: the raw data.
        pid: the process.
        clock: the recording's.
        symbols: numbers the frames, stacks and threads.
        until_ns: end of the recording; what lies behind is cut off.
        collector: name of the row in recording_quality.
    """
    notes = Notes()
    frames = Frames(symbols)
    dumps = list(snapshots(folder / "dumps.ndjson", clock))
    times, readings_ns = thread_times(folder / "threads.csv", clock)
    if pid in times and (ended_ns := times[pid].gone_ns) is not None and ended_ns < until_ns:
        until_ns = ended_ns
        notes.add(f"the process ended {ended_ns / 1e9:.1f} s after the start")
    runs = list(runs_in(folder, notes))
    windows = list(windows_of(runs, clock, frames, until_ns, notes))
    period_ns = 1_000_000_000 // (runs[0].rate_hz if runs else _USUAL_RATE_HZ)
    begun_ns = clock.from_monotonic(runs[0].spawned_ns) if runs else 0
    spans = _Spans(pid, symbols, os_tids(dumps, pid), [dump["at_ns"] for dump in dumps], times)
    for window in windows:
        spans.add(window)
    columns = spans.on_grid(period_ns)
    columns["active"] = _activity(columns, spans, frames, times, readings_ns, dumps, period_ns)
    columns["has_gil"] = _gil(columns, spans, dumps, frames, period_ns)
    weight = np.full(len(columns["tick_ns"]), period_ns, dtype=np.int64)
    table = CPU_SAMPLES.from_columns(
        {name: columns[name] for name in ("tick_ns", "thread_id", "stack_id", "active", "has_gil")}
        | {"weight_ns": weight}
    )
    return {
        "cpu_samples": table,
        "recording_quality": _quality(pid, collector, windows, begun_ns, until_ns, period_ns, notes),
    }


class _Spans:
    """Collects intervals of all windows as columns, with threads and stacks numbered."""

    def __init__(
        self,
        pid: int,
        symbols: Symbols,
        seen: dict[int, list[tuple[int, int, str | None]]],
        dumped_ns: list[int],
        times: dict[int, ThreadTimes],
    ) -> None:
        self._pid = pid
        self._symbols = symbols
        self._seen = seen
        self._dumped_ns = dumped_ns
        self._times = times
        self._threads: dict[tuple[int, int | None], int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._rows: list[tuple[int, int, int, int]] = []
        self.os_tids: dict[int, int] = {}
        """thread_id -> thread id of the operating system, where it is known."""
        self.leaves: dict[int, int] = {}
        """stack_id -> its innermost frame."""

    def add(self, window: Window) -> None:
        """Add the intervals of a window, cut to what it covers and to the life of each thread."""
        for interval in window.trace.intervals:
            start_ns = max(window.anchor_ns + interval.start_us * 1000, window.from_ns)
            end_ns = min(window.anchor_ns + interval.end_us * 1000, window.until_ns)
            if end_ns <= start_ns:
                continue
            thread_id = self._thread(interval, start_ns)
            end_ns = min(end_ns, self._gone_ns(interval.tid, thread_id, start_ns, end_ns))
            self._rows.append((start_ns, end_ns, thread_id, self._stack(interval.frames)))

    def on_grid(self, period_ns: int) -> dict[str, Any]:
        """Return tick_ns, thread_id and stack_id of every sample."""
        columns = np.array(self._rows, dtype=np.int64).reshape(-1, 4)
        rows, ticks = on_grid(columns[:, 0], np.maximum(columns[:, 0], columns[:, 1]), period_ns)
        order = np.lexsort((columns[rows, 2], ticks))
        return {
            "tick_ns": ticks[order],
            "thread_id": columns[rows, 2][order],
            "stack_id": columns[rows, 3][order],
        }

    def _gone_ns(self, tid: int, thread_id: int, start_ns: int, end_ns: int) -> int:
        """Return when a thread was missing for the first time, at most `end_ns`.

        py-spy leaves the last stack of a thread that ended open until the window ends.
        """
        thread = self._times.get(self.os_tids.get(thread_id, -1))
        if thread is not None:
            return end_ns if thread.gone_ns is None else thread.gone_ns
        seen = self._seen.get(tid)
        last_ns = seen[-1][0] if seen else start_ns
        after = bisect_right(self._dumped_ns, max(last_ns, start_ns))
        return self._dumped_ns[after] if after < len(self._dumped_ns) else end_ns

    def _thread(self, interval: Interval, at_ns: int) -> int:
        """Return the number of the thread that had this pthread id at that time."""
        seen = self._seen.get(interval.tid, [])
        after = bisect_left(seen, at_ns, key=lambda row: row[0])
        nearest = min(seen[max(0, after - 1) : after + 1], key=lambda row: abs(row[0] - at_ns), default=None)
        os_tid, name = (None, None) if nearest is None else nearest[1:]
        key = (interval.tid, os_tid)
        if key not in self._threads:
            number = self._symbols.thread(self._pid, key if os_tid is None else os_tid, os_tid=os_tid, name=name)
            self._threads[key] = number
            if os_tid is not None:
                self.os_tids[number] = os_tid
        return self._threads[key]

    def _stack(self, frames: tuple[int, ...]) -> int:
        """Return the number of a stack."""
        number = self._stacks.get(frames)
        if number is None:
            number = self._stacks[frames] = self._symbols.stack(frames)
            self.leaves[number] = frames[-1]
        return number


def _activity(
    columns: dict[str, Any],
    spans: _Spans,
    frames: Frames,
    times: dict[int, ThreadTimes],
    readings_ns: list[int],
    dumps: list[dict[str, Any]],
    period_ns: int,
) -> pa.Array:
    """Return for each sample whether the thread was running; NULL where its CPU time is unknown and no wait is seen."""
    tick_ns: NDArray[np.int64] = columns["tick_ns"]
    if not len(tick_ns):
        return pa.array([], pa.bool_())
    leaf_of = np.zeros(max(spans.leaves) + 1, dtype=np.int64)
    leaf_of[list(spans.leaves)] = list(spans.leaves.values())
    leaf = leaf_of[columns["stack_id"]]
    seen = _seen_running(dumps, frames)
    waits = np.zeros(int(leaf.max()) + 1, dtype=np.bool_)
    prior, worth = np.ones(len(waits)), np.zeros(len(waits))
    for frame in np.unique(leaf).tolist():
        waits[frame] = is_known_wait(*frames.place(frame))
        prior[frame], worth[frame] = prior_share(bool(waits[frame]), *seen.get(frame, (0, 0)))
    cell = np.full(len(tick_ns), -1, dtype=np.int64)
    cpu_ticks: list[NDArray[np.float64]] = []
    edges = np.array(readings_ns, dtype=np.int64)
    for number, (thread_id, os_tid) in enumerate(sorted(spans.os_tids.items())):
        thread = times.get(os_tid)
        if thread is None or len(edges) < 2 or not thread.at_ns:
            cpu_ticks.append(np.zeros(max(len(edges) - 1, 0)))
            continue
        mine = np.flatnonzero(columns["thread_id"] == thread_id)
        at = np.searchsorted(edges, tick_ns[mine], side="right") - 1
        inside = (at >= 0) & (at < len(edges) - 1)
        cell[mine[inside]] = at[inside] + number * (len(edges) - 1)
        # A thread is written when its time has changed, so it was constant up to the reading before.
        known = np.searchsorted(np.array(thread.at_ns), edges, side="right") - 1
        total = np.array(thread.cpu_ns, dtype=np.float64)[np.maximum(known, 0)]
        cpu_ticks.append(np.maximum(np.diff(total), 0.0) / period_ns)
    answer = np.zeros(len(tick_ns), dtype=np.bool_)
    measured = cell >= 0
    if measured.any():
        likely = running_share(cell[measured], leaf[measured], prior, worth, np.concatenate(cpu_ticks))
        group = columns["thread_id"][measured] * len(waits) + leaf[measured]
        answer[measured] = diffuse(likely, group)
    unknown = ~measured & ~waits[leaf]
    return pa.array(answer, pa.bool_(), mask=unknown)


def _seen_running(dumps: list[dict[str, Any]], frames: Frames) -> dict[int, tuple[int, int]]:
    """Return for each innermost frame in how many snapshots its thread was running, and in how many it was there.

    Where py-spy knows the thread of the operating system (Python 3.11 and later), `active` is
    the kernel's word. Before, it is always true, and only the owner of the GIL surely runs.
    """
    seen: dict[int, tuple[int, int]] = {}
    for dump in dumps:
        for thread in dump["threads"]:
            frame = frames.known(*thread["leaf"]) if thread.get("leaf") else None
            if frame is not None:
                runs = bool(thread["owns_gil"] or (thread["active"] and not thread.get("os_tid_is_ours")))
                running, total = seen.get(frame, (0, 0))
                seen[frame] = running + runs, total + 1
    return seen


def _gil(
    columns: dict[str, Any], spans: _Spans, dumps: list[dict[str, Any]], frames: Frames, period_ns: int
) -> pa.Array:
    """Return who held the GIL at the samples that agree with a snapshot taken at that moment; elsewhere NULL."""
    tick_ns: NDArray[np.int64] = columns["tick_ns"]
    answer = np.zeros(len(tick_ns), dtype=np.bool_)
    unknown = np.ones(len(tick_ns), dtype=np.bool_)
    thread_ids = {os_tid: thread_id for thread_id, os_tid in spans.os_tids.items()}
    for dump in dumps:
        tick = dump["at_ns"] // period_ns * period_ns
        low, high = bisect_left(tick_ns, tick), bisect_left(tick_ns, tick + 1)
        rows = {int(columns["thread_id"][row]): row for row in range(low, high)}
        for thread in dump["threads"]:
            row = rows.get(thread_ids.get(thread.get("os_thread_id"), -1))
            if row is None or thread.get("leaf") is None:
                continue
            function, file, line = thread["leaf"]
            seen = frames.place(spans.leaves[int(columns["stack_id"][row])])
            if seen[:2] == frames.place(frames(function, file, line))[:2]:
                answer[row], unknown[row] = bool(thread["owns_gil"]), False
    return pa.array(answer, pa.bool_(), mask=unknown)


def _quality(
    pid: int, collector: str, windows: list[Window], begun_ns: int, until_ns: int, period_ns: int, notes: Notes
) -> pa.Table:
    """Return the row that says how much of the recording is covered, in ticks."""
    from_ns = max(0, windows[0].from_ns if windows else begun_ns)
    covered_ns = sum(max(0, window.until_ns - window.from_ns) for window in windows)
    expected = max(0, until_ns - from_ns) // period_ns
    taken = max(0, min(expected, covered_ns // period_ns) - notes.errors)
    if notes.errors:
        notes.add(f"py-spy failed to read {notes.errors} samples")
    if notes.cpu_ns and covered_ns:
        notes.add(f"py-spy itself used {notes.cpu_ns / covered_ns:.1%} of one core, outside the target")
    row = {
        "collector": collector,
        "pid": pid,
        "from_ns": from_ns,
        "until_ns": windows[-1].until_ns if windows else from_ns,
        "expected": expected,
        "taken": taken,
        "lost": expected - taken,
        "note": "; ".join(notes.sentences) or None,
    }
    return RECORDING_QUALITY.from_rows([row])
