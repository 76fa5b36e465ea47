"""Holds a given number of objects: sessions with attributes, keys, numbers and nested containers; then ticks.

Prints "ready", then answers each line with the longest time in milliseconds between two ticks since the last answer.
"""

import sys
import threading
import time


class Session:
    def __init__(self, number):
        self.number = number + 1000
        self.user = f"user-{number}"
        self.tags = [number * 7 + 1000, (number, f"tag-{number}")]
        self.data = {"created": number / 3, "role": "admin"}


def build(objects):
    # Ten objects each: the session, its number, user, tags, tag number, tuple, text, data, float, key.
    return {f"key-{number}": Session(number) for number in range(objects // 10)}


SESSIONS = build(int(sys.argv[1]))
longest_ms = 0.0


def answer():
    global longest_ms
    for _line in sys.stdin:
        longest_ms, told = 0.0, longest_ms
        print(told, flush=True)


threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
before = time.perf_counter()
while True:
    time.sleep(0.001)
    now = time.perf_counter()
    longest_ms, before = max(longest_ms, (now - before) * 1000), now
