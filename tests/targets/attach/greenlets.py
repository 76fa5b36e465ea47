"""A program of one loop of greenlets, which tells the longest time in milliseconds that the loop stood still.

Arguments: the library that puts its own functions in the place of the system's; "probe" when the program lets
recorders in itself. Each line that it is sent is answered with the longest time since the last.
"""

import sys

library, *own = sys.argv[1:]
if library == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()

import json
import os
import posix
import threading
import time

if own:
    import perfkit.probe

    perfkit.probe.start()

made = []


def work():
    while True:
        made.append(bytearray(100))
        time.sleep(0.01)


threading.Thread(target=work, daemon=True).start()
os.set_blocking(0, False)
print("ready", flush=True)
longest_s, before = 0.0, time.monotonic()
while True:
    time.sleep(0.01)
    now = time.monotonic()
    longest_s, before = max(longest_s, now - before), now
    try:
        asked = posix.read(0, 100)  # the system's own, which does not wait
    except BlockingIOError:
        continue
    if not asked:
        break
    print(json.dumps({"stood_still_ms": longest_s * 1e3}), flush=True)
    longest_s = 0.0
