r"""A parser that appends to its buffer and only moves an offset: one object that gets larger.

Truth:
classes = ["python_leak"]
holder = '\.buffer\b'
"""

import sys

from service import Service


class Parser:
    def __init__(self):
        self.buffer = bytearray()
        self.at = 0

    def feed(self, data):
        self.buffer += data  # truth: inserts allocates
        message = bytes(self.buffer[self.at : self.at + 100])
        self.at = len(self.buffer)
        return message


def main():
    service = Service(rate=100)
    parser = Parser()
    data = bytes(1_000)
    service.ready()
    for _number in service.requests():
        service.churn()
        while service.due(len(data)):
            before = sys.getsizeof(parser.buffer)
            parser.feed(data)
            service.leaked(sys.getsizeof(parser.buffer) - before)  # it takes an eighth more than it needs, at times


main()
