r"""A worker that was forked from a parent with a large heap: reading it copies its pages, up to the parent's size.

Truth:
kind = "negative"
classes = ["none", "undetermined", "filling", "allocator_retention"]
"""

import os
import signal
import sys

from service import Service


def main():
    service = Service(rate=100)
    rows = [[number, str(number)] for number in range(400_000)]
    worker = os.fork()
    if worker:
        signal.signal(signal.SIGTERM, lambda *_: os.kill(worker, signal.SIGTERM))
        _, status = os.waitpid(worker, 0)
        sys.exit(0 if status in (0, signal.SIGTERM) else 1)
    service.ready()
    place = 0
    for _ in service.requests():
        service.churn()
        for row in rows[place : place + 100]:
            service.random.random() < row[0]
        place = (place + 100) % len(rows)


main()
