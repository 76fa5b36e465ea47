r"""A collector of measurements that buffers them for twenty seconds and then hands them on: memory is a saw.

Truth:
kind = "negative"
classes = ["none", "undetermined"]
"""

import time

from service import Service


class Buffer:
    def __init__(self, every_s):
        self.every_s = every_s
        self.points = []
        self.flushed_at = time.monotonic()

    def add(self, number, size_bytes):
        self.points.append((number, bytearray(size_bytes)))
        if time.monotonic() - self.flushed_at > self.every_s:
            self.points = []
            self.flushed_at = time.monotonic()


def main():
    service = Service(rate=120, mib_per_min=10)
    buffer = Buffer(every_s=20)
    service.ready()
    for number in service.requests():
        service.churn()
        buffer.add(number, int(service.bytes_per_request))


main()
