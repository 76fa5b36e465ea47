"""The same search service with pages of half the size: nothing is ever due."""

import gc

from paced import serve

HITS = gc.get_threshold()[0] // 3
CONFIG = [[index] for index in range(60_000)]


async def search(number):
    for page in range(12):
        hits = [[number, page, hit] for hit in range(HITS)]
        best = max(hits)
    return best


serve(search, 150)
