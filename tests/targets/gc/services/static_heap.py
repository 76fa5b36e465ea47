"""A recommendation service: a large model loaded once, and caches of users that turn over slowly in batches."""

import collections

from paced import serve

MODEL = [[[index], index] for index in range(600_000)]
RECENT = collections.deque(maxlen=40)


async def refresh(number):
    RECENT.append([[number, user] for user in range(60_000)])
    RECENT[-1][0].append(MODEL[number % 1000])
    if len(RECENT) > 3:
        RECENT.popleft()


serve(refresh, 8)
