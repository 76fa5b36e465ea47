r"""A throttle that only looks: in a `defaultdict` each look at a new address leaves an entry.

Truth:
classes = ["python_leak"]
holder = '\.windows\b'
type = 'Window$'
"""

from collections import defaultdict

from service import Service


class Window:
    __slots__ = ("hits", "note")

    def __init__(self):
        self.hits = [0] * 60  # truth: allocates
        self.note = bytearray(1_500)  # truth: allocates


class Throttle:
    def __init__(self):
        self.windows = defaultdict(Window)

    def is_allowed(self, address):
        return sum(self.windows[address].hits) < 100  # truth: inserts allocates


def main():
    service = Service(rate=120)
    throttle = Throttle()
    for number in service.measured(2_400):
        throttle.is_allowed(f"2001:db8::{number:x}")
        service.leaked(1_557)
    service.ready()
    for number in service.requests():
        service.churn()
        if service.due(2_400):
            throttle.is_allowed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
            service.leaked(1_557)


main()
