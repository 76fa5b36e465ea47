"""A search service: each request holds a few more objects at a time than the collector's first threshold."""

import gc

from paced import serve

HITS = int(gc.get_threshold()[0] * 1.3)
CONFIG = [[index] for index in range(60_000)]


async def search(number):
    for page in range(12):
        hits = [[number, page, hit] for hit in range(HITS)]
        best = max(hits)
    return best


serve(search, 150)
