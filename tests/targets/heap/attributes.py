"""Instances with one and with eight attributes, and what they take by what was allocated for them."""

import gc
import io
import json
import sys
import tracemalloc


class Point:
    def __init__(self):
        self.x = None


class Order:
    def __init__(self):
        self.number = self.day = self.customer = self.street = None
        self.city = self.lines = self.total = self.paid = None


class Slotted:
    __slots__ = ("a", "b", "c")

    def __init__(self):
        self.a = self.b = self.c = None


TEXT = io.StringIO()
TEXT.write("x" * 100_000)


def main():
    kept, truth = [], {}
    for kind in (Point, Order, Slotted):
        several = [None] * 5000
        kind()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5000):
            several[number] = kind()
        truth[kind.__name__] = (tracemalloc.get_traced_memory()[0] - before) / 5000
        tracemalloc.stop()
        kept.append(several)
    print("ready", flush=True)
    for _line in sys.stdin:
        print(json.dumps(truth), flush=True)


main()
