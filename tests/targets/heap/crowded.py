"""Threads that want the interpreter all the time, and threads that allocate without it."""

import os
import threading
import time
import zlib


def spin():
    while True:
        [object() for _ in range(50)]


def compress():
    data = os.urandom(1 << 18)
    while True:
        zlib.compress(data, 1)


for work in (spin, spin, compress):
    threading.Thread(target=work, daemon=True).start()
KEPT = [{"number": [number]} for number in range(30_000)]
print("ready", flush=True)
while True:
    time.sleep(0.005)
