r"""A price service with a time-to-live cache of ten minutes, recorded in its first minutes: it fills, then it stays.

A negative: no window shorter than the time to live can tell it from a leak, so a leak is never the answer.

Truth:
kind = "negative"
classes = ["filling", "undetermined"]
"""

import time

from service import Service


class TtlCache:
    def __init__(self, ttl_s):
        self.ttl_s = ttl_s
        self.entries = {}

    def get(self, key):
        entry = self.entries.get(key)
        if entry is not None and entry[0] > time.monotonic():
            return entry[1]
        return None

    def put(self, key, value):
        self.entries[key] = (time.monotonic() + self.ttl_s, value)

    def sweep(self):
        now = time.monotonic()
        for key in list(self.entries)[:50]:
            if self.entries[key][0] > now:
                break
            del self.entries[key]


def main():
    service = Service(rate=80)
    prices = TtlCache(ttl_s=600)
    size_bytes = int(service.bytes_per_request)
    for number in service.measured(size_bytes, units=64):
        prices.put(-number, service.random.randbytes(size_bytes))
    service.ready()
    for number in service.requests():
        service.churn()
        if prices.get(number) is None:
            prices.put(number, service.random.randbytes(size_bytes))
        prices.sweep()


main()
