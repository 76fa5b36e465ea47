"""A matching service that switched the collector off for its latency, and makes cycles all the same."""

import gc

from paced import serve

gc.disable()


class Match:
    def __init__(self, number):
        self.legs = [[self, number] for _ in range(10)]
        self.notes = bytes(2_000)


async def match(number):
    Match(number)


serve(match, 200)
