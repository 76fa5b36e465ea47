"""A recorder to be killed. Usage: recorder.py PID FOLDER; prints "recording" when it is; stops at a line of input."""

import sys
from contextlib import ExitStack
from pathlib import Path

from perfkit.attach.session import Session
from perfkit.attach.target import inspect
from perfkit.clock import Clock
from perfkit.collectors import Recording, collectors

INSIDE = ("gc_pauses", "loop_lag", "python_memory", "asyncio_tasks", "python_threads", "memray_heap", "object_census")

target = inspect(int(sys.argv[1]))
with ExitStack() as stack:
    session = stack.enter_context(Session.open(target))
    for collector in map(collectors().__getitem__, INSIDE):
        raw = Path(sys.argv[2]) / collector.name
        raw.mkdir()
        stack.enter_context(
            collector.record(Recording(target, raw, Clock.start(), lambda: session, print, duration_s=3.0))
        )
    print("recording", flush=True)
    sys.stdin.readline()
    print("stopping", flush=True)
