"""Generators that were closed while somebody keeps their frames; half of these outlive their generator.

The memory that the frames get was used before, so that what nobody wrote there leads nowhere.
"""

import sys


class Row:
    def __init__(self, number):
        self.number, self.cells = number, [number, str(number)]


def rows(first):
    row, others = Row(first), [Row(first + 1)]
    while True:
        yield row, others


def main():
    generators = [rows(number) for number in range(500)]
    for generator in generators:
        next(generator)
    used = [b"\xaa" * size for size in range(100, 480, 8) for _ in range(1000)]
    used.clear()
    frames = [generator.gi_frame for generator in generators]
    for generator in generators:
        generator.close()
    outlived = [frame for frame, _generator in zip(frames[::2], generators[::2], strict=True)]
    del generators[::2], frames
    others = [bytes([number % 256]) * 56 for number in range(20_000)]  # where the rows were
    print("ready", flush=True)
    sys.stdin.read()
    return generators, outlived, others


main()
