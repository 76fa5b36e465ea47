r"""A feed that is split by `itertools.tee`: one half is read, the other's items wait in C.

Truth:
classes = ["python_leak", "backlog"]
holder = '\.audit\b|_tee'
"""

import itertools

from service import Service


class Splitter:
    def __init__(self):
        self.live, self.audit = itertools.tee(self.feed())

    def feed(self):
        for number in itertools.count():
            yield [number, bytearray(3_500)]  # truth: allocates

    def step(self):
        return next(self.live)  # truth: inserts


def main():
    service = Service(rate=100)
    splitter = Splitter()
    for _number in service.measured(3_700, units=171):
        splitter.step()
        service.leaked(3_557)
    service.ready()
    for _number in service.requests():
        service.churn()
        if service.due(3_700):
            splitter.step()
            service.leaked(3_557)


main()
