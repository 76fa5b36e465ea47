r"""A consumer that tells repeated messages by two generations of keys, of which the older is dropped every twenty seconds.

Truth:
kind = "negative"
classes = ["none", "undetermined", "filling"]
"""

import time

from service import Service


class Seen:
    def __init__(self, every_s):
        self.every_s = every_s
        self.young, self.old = {}, {}
        self.turned_at = time.monotonic()

    def is_repeated(self, key, size_bytes):
        if time.monotonic() - self.turned_at > self.every_s:
            self.old, self.young = self.young, {}
            self.turned_at = time.monotonic()
        if key in self.young or key in self.old:
            return True
        self.young[key] = bytearray(size_bytes)
        return False


def main():
    service = Service(rate=120, mib_per_min=10)
    seen = Seen(every_s=20)
    service.ready()
    for number in service.requests():
        service.churn()
        seen.is_repeated(f"message-{number}", int(service.bytes_per_request))


main()
