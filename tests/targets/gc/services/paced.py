"""Calls a handler at a fixed rate on an event loop until the process is told to end: the frame of every service here.

Prints "ready PID" once it serves. A line on standard input is answered with one line of JSON that says how the collector
is set; the end of input ends the process.
"""

import asyncio
import gc
import json
import os
import sys
import time


async def _serve(handle, per_s):
    loop = asyncio.get_running_loop()
    begun, number, late_ms = time.monotonic(), 0, []
    over = asyncio.Event()

    def talk():
        line = sys.stdin.readline()
        if not line:
            over.set()
            return
        if line.startswith("lateness"):
            late = sorted(late_ms) or [0.0]
            answer = {"requests": len(late), "p50_ms": late[len(late) // 2], "p99_ms": late[int(len(late) * 0.99)]}
            late_ms.clear()
        else:
            answer = {
                "thresholds": gc.get_threshold(), "enabled": gc.isenabled(), "frozen": gc.get_freeze_count(),
                "callbacks": len(gc.callbacks), "served": number,
                "descriptors": len(os.listdir("/proc/self/fd")),
            }  # fmt: skip
        print(json.dumps(answer), flush=True)

    loop.add_reader(sys.stdin.fileno(), talk)
    print(f"ready {os.getpid()}", flush=True)
    while not over.is_set():
        due = begun + number / per_s
        wait = due - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        elif number % 20 == 0:
            await asyncio.sleep(0)
        await handle(number)
        number += 1
        late_ms.append((time.monotonic() - max(due, begun)) * 1000)
        if time.monotonic() - due > 5:  # hopelessly late: begin anew rather than never answer again
            begun, number = time.monotonic(), 0


def serve(handle, per_s):
    """Call `await handle(number)` that often per second."""
    asyncio.run(_serve(handle, per_s))
