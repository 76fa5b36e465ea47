r"""A consumer that traces its messages: the context is never reset, so that each span has the one before as parent.

Truth:
classes = ["python_leak"]
holder = 'Span|\bcurrent\b|\.parent\b'
type = 'Span$'
"""

import contextvars
import time

from service import Service

current = contextvars.ContextVar("current", default=None)


class Span:
    def __init__(self, name, parent):
        self.name = name
        self.parent = parent
        self.started = time.time()
        self.attributes = {"message.body": bytes(4_000)}  # truth: allocates


def consume(service, number):
    current.set(Span(f"message {number}", current.get()))  # truth: inserts
    service.leaked(4_033)


def main():
    service = Service(rate=100)
    for number in service.measured(4_500, units=128):
        consume(service, number)
    service.ready()
    for number in service.requests():
        service.churn()
        if service.due(4_500):
            consume(service, number)


main()
