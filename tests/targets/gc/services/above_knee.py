"""A search service: each request holds a few more objects at a time than the collector's first threshold."""

import sys

from paced import serve

HITS = int((2000 if sys.version_info >= (3, 13) else 700) * 1.3)  # of what Python comes with, whatever is set
CONFIG = [[index] for index in range(60_000)]


async def search(number):
    for page in range(12):
        hits = [[number, page, hit] for hit in range(HITS)]
        best = max(hits)
    return best


serve(search, 150)
