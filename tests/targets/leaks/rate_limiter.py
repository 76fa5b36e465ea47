r"""A rate limiter that keeps the times of the last calls per client address, and each address for ever.

Truth:
classes = ["python_leak"]
holder = '\.calls\b|\bCALLS\b'
type = '(deque|str)$'
"""

import collections
import time

from service import Service


class RateLimiter:
    def __init__(self, per_minute):
        self.per_minute = per_minute
        self.calls = collections.defaultdict(collections.deque)  # truth: allocates

    def allow(self, address):
        now = time.monotonic()
        calls = self.calls[address]  # truth: inserts allocates
        calls.append(now)  # truth: allocates
        while calls and calls[0] < now - 60:
            calls.popleft()
        return len(calls) <= self.per_minute


def main():
    service = Service(rate=250, mib_per_min=3)
    limiter = RateLimiter(100)
    known = [f"10.0.0.{number}" for number in range(50)]

    def stranger():
        number = service.random.getrandbits(64)
        service.leaked()
        return f"2001:db8::{number:x}"  # truth: allocates

    for _ in service.measured(850, units=1000):
        limiter.allow(stranger())
    service.ready()
    for _ in service.requests():
        service.churn(collections.deque)
        if service.due(850):
            limiter.allow(stranger())
        elif service.random.random() < 0.05:
            limiter.allow(service.random.choice(known))


main()
