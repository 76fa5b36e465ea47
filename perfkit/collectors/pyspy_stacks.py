"""CPU stacks by py-spy: every thread, a hundred times a second, without stopping the target.

py-spy writes its file only at the end, so a recording is a row of short windows, each by a
py-spy of its own. A window begins before the one before it ends, and decoding cuts the overlap:
nothing is blind in between. `--idle` is a must, else the last active stack stays open for ever.
"""

import csv
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach import pyspy
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording
from perfkit.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_OVERLAP_S = 0.1
_SPARE_S = 5
_THREADS_EVERY_S = 0.2
_FAILURES = 3
_WAKE_S = 0.1
_FIRST_DUMPS, _FIRST_DUMPS_EVERY_S = 10, 0.5
"""The first snapshots are closer together: without any, where a thread waits and where it runs is a guess."""
_MOST_HZ = 1000


@dataclass(frozen=True, eq=False)
class PySpyStacks:
    """Samples the call stacks of all threads; see the module for how.

    Options: `rate_hz` samples per second and thread; `window_s` length of one py-spy run, and
    so the most that a recorder that is killed can lose; `dump_every_s` distance of the snapshots
    that tell thread names, who runs and who holds the GIL: each is a py-spy that has to find its way
    in the target anew, 20 ms of CPU time.
    """

    name: str = "pyspy_stacks"
    group: str = "cpu"
    writes: tuple[str, ...] = ("cpu_samples",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"rate_hz": 100, "window_s": 10.0, "dump_every_s": 2.0})

    def problem(self, target: Target) -> Exception | None:
        """Return why py-spy cannot sample the target, or None; touches nothing."""
        return pyspy.problem(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Sample while the context is open; returns from entering it when the first sample is about to be taken.

        Raises:
            PySpyFailed: py-spy could not attach though the target is alive.
            UsageError: the options make no sense.
        """
        options = {**self.options, **recording.options}
        if not (1 <= int(options["rate_hz"]) <= _MOST_HZ and float(options["window_s"]) > 0):
            raise UsageError(
                f"cannot sample {options['rate_hz']} times a second in windows of {options['window_s']} s",
                hint=f"Choose a rate_hz from 1 to {_MOST_HZ} and a window_s above 0; the defaults are 100 and 10.",
            )
        stop = threading.Event()
        windows = _Windows(recording, int(options["rate_hz"]), float(options["window_s"]), stop)
        sidecars = [
            threading.Thread(target=_watch_threads, args=(recording, stop), name="perfkit-threads", daemon=True),
            threading.Thread(
                target=_watch_gil,
                args=(recording, float(options["dump_every_s"]), stop),
                name="perfkit-dumps",
                daemon=True,
            ),
        ]
        windows.open_first()
        for thread in (windows, *sidecars):
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in (windows, *sidecars):
                thread.join()

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return cpu_samples and its row of recording_quality."""
        from perfkit.raw.cpu import samples

        return samples(raw.folder, raw.pid, raw.clock, raw.symbols, raw.until_ns, collector=self.name)


class _Windows(threading.Thread):
    """Runs one py-spy after the other until it is told to stop or the target is gone."""

    def __init__(self, recording: Recording, rate_hz: int, window_s: float, stop: threading.Event) -> None:
        super().__init__(name="perfkit-windows", daemon=True)
        self._recording = recording
        self._rate_hz = rate_hz
        self._window_s = window_s
        self._stop_asked = stop
        self._opened = 0
        self._failures = 0
        self._current: pyspy.Window | None = None

    def open_first(self) -> None:
        """Start the first window and wait until it samples.

        Raises:
            PySpyFailed: py-spy could not attach though the target is alive.
        """
        try:
            window = self._open()
        except OSError as error:
            raise pyspy.PySpyFailed(self._recording.target.pid, error.strerror or str(error)) from error
        if not window.wait_until_sampling():
            window.stop()
            if self._recording.target.is_alive():
                raise window.failure()
        self._current = window

    def run(self) -> None:
        """Hand over from window to window."""
        window = self._current
        assert window is not None
        until = time.monotonic() + self._window_s
        try:
            while not self._stop_asked.wait(_WAKE_S):
                if not window.ended and time.monotonic() < until:
                    continue
                if not self._recording.target.is_alive() or self._failures >= _FAILURES:
                    return
                successor = self._open()
                until = time.monotonic() + self._window_s
                if successor.wait_until_sampling(self._stop_asked.is_set):
                    self._failures = 0
                    self._stop_asked.wait(_OVERLAP_S)
                else:
                    self._failures += not self._stop_asked.is_set()
                window.stop()
                window = successor
        except OSError as error:  # the disk is full, or too many processes: what there is stays
            self._recording.say(f"CPU sampling stopped: {error.strerror}")
        finally:
            window.stop()

    def _open(self) -> pyspy.Window:
        """Start a window that would end by itself some seconds after its successor has taken over."""
        number, self._opened = self._opened, self._opened + 1
        bound_s = ceil(self._window_s) + _SPARE_S
        return pyspy.Window(
            self._recording.target.pid, self._recording.raw, number, rate_hz=self._rate_hz, bound_s=bound_s
        )


def _watch_threads(recording: Recording, stop: threading.Event) -> None:
    """Write the CPU time of each thread whenever it has changed, and of the main thread always."""
    pid = recording.target.pid
    known: dict[int, int] = {}
    due = time.monotonic()
    try:
        with (recording.raw / "threads.csv").open("w", newline="", encoding="ascii") as file:
            rows = csv.writer(file)
            rows.writerow(["at_ns", "tid", "cpu_ns"])
            while True:
                times = thread_times_ns(pid)
                now_ns = time.monotonic_ns()
                gone = known.keys() - times.keys()
                changed = {tid: ns for tid, ns in times.items() if tid == pid or known.get(tid) != ns}
                rows.writerows((now_ns, tid, ns) for tid, ns in {**changed, **dict.fromkeys(gone, -1)}.items())
                file.flush()
                known = times
                if not times:
                    return
                due = max(due + _THREADS_EVERY_S, time.monotonic())
                if stop.wait(due - time.monotonic()):
                    return
    except OSError as error:
        recording.say(f"the CPU time of threads is not recorded any more: {error.strerror}")


def thread_times_ns(pid: int) -> dict[int, int]:
    """Return the CPU time of every thread of a process so far, by thread id; empty when it is gone.

    From schedstat, which counts nanoseconds; where the kernel lacks it, from stat, which counts
    clock ticks of usually 10 ms. Source: https://docs.kernel.org/scheduler/sched-stats.html
    """
    times: dict[int, int] = {}
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it ended just now
                times[int(thread.name)] = _cpu_time_ns(thread)
    return times


def _cpu_time_ns(thread: Path) -> int:
    """Return the CPU time of one thread."""
    try:
        return int((thread / "schedstat").read_bytes().split()[0])
    except FileNotFoundError:
        fields = (thread / "stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _watch_gil(recording: Recording, every_s: float, stop: threading.Event) -> None:
    """Write a snapshot of all threads now and then: their names, their ids, who holds the GIL."""
    try:
        with (recording.raw / "dumps.ndjson").open("w", encoding="utf-8") as file:
            taken = 0
            while recording.target.is_alive():
                began_ns = time.monotonic_ns()
                threads = pyspy.dump(recording.target.pid)
                if threads:
                    row = {"began_ns": began_ns, "ended_ns": time.monotonic_ns(), "threads": threads}
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                taken += 1
                if stop.wait(min(every_s, _FIRST_DUMPS_EVERY_S) if taken < _FIRST_DUMPS else every_s):
                    return
    except OSError as error:
        recording.say(f"thread names and GIL are not recorded any more: {error.strerror}")


COLLECTOR = PySpyStacks()
