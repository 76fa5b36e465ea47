r"""A signal library that keeps weak references to its receivers, and the references for ever: the receivers die.

Truth:
classes = ["python_leak"]
holder = '\.receivers\b'
type = '(weakref|ReferenceType|Reference)$'
"""

import weakref

from service import Service


class Receiver:
    def __init__(self, number):
        self.number = number


class Reference(weakref.ref):
    __slots__ = ("name", "key")


class Signal:
    def __init__(self):
        self.receivers = {}

    def connect(self, receiver, number):
        reference = Reference(receiver)  # truth: allocates
        reference.name = f"receiver-{number:08d}" * 20  # truth: allocates
        reference.key = number
        self.receivers[number] = reference  # truth: inserts allocates


def main():
    service = Service(rate=200, mib_per_min=4)
    signal = Signal()

    def handle(number):
        receiver = Receiver(number)
        signal.connect(receiver, number)
        service.leaked()

    for number in service.measured(650, units=1000):
        handle(-number)
    service.ready()
    for number in service.requests():
        service.churn(lambda: Receiver(0))
        if service.due(650):
            handle(number)


main()
