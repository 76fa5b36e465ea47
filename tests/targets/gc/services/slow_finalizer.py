"""A reporting service whose sheets sit in cycles and write their summary when they are finalized."""

import os
import time

from paced import serve


class Sheet:
    def __init__(self, number):
        self.cells = [[number, self] for _ in range(60)]

    def __del__(self):
        flush_summary()


def flush_summary():
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.write(descriptor, b"summary")
    time.sleep(0.004)  # a disk that takes its time
    os.close(descriptor)


async def report(number):
    Sheet(number)


serve(report, 60)
