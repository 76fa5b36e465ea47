"""Keeps the five hundred newest of its results, each of which leads to itself: always young objects, never garbage.

None is let go of in a way that leaves a cycle behind, so that the collector is never due.
"""

import time
from collections import deque


class Hit:
    def __init__(self, number):
        self.number = [number]
        self.itself = self


RECENT = deque(Hit(number) for number in range(500))
print("ready", flush=True)
while True:
    for number in range(20):
        RECENT.append(Hit(number))
        RECENT.popleft().itself = None
    time.sleep(0.01)
