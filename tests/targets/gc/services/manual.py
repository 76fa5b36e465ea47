"""A thumbnail service that frees memory after each request, as somebody once advised."""

import gc

from paced import serve

TEMPLATES = [[[index]] for index in range(60_000)]


def release_memory():
    gc.collect()


async def thumbnail(number):
    tile = [bytes(100) for _ in range(20)]
    release_memory()
    return len(tile)


serve(thumbnail, 30)
