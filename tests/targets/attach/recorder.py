"""A recorder to be killed. Usage: recorder.py PID FOLDER; prints "recording" when it is."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from perfkit.attach.session import Session
from perfkit.attach.target import inspect
from perfkit.clock import Clock
from perfkit.collectors import Recording
from perfkit.collectors.memray_heap import COLLECTOR as HEAP
from perfkit.collectors.object_census import COLLECTOR as CENSUS

target = inspect(int(sys.argv[1]))
with ExitStack() as stack:
    session = stack.enter_context(Session.open(target))
    for collector in (HEAP, CENSUS):
        raw = Path(sys.argv[2]) / collector.name
        raw.mkdir()
        stack.enter_context(
            collector.record(Recording(target, raw, Clock.start(), lambda: session, print, duration_s=3.0))
        )
    print("recording", flush=True)
    time.sleep(60)
