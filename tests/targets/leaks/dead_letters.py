r"""A broker that keeps rejected messages in a deque without a limit; many were there before anyone looked.

Truth:
classes = ["python_leak"]
holder = '\.dead_letters\b'
type = 'Letter$'
"""

from collections import deque

from service import Service


class Letter:
    __slots__ = ("body", "key", "tries")

    def __init__(self, key, body):
        self.key = key  # truth: allocates
        self.body = body
        self.tries = 3


class Broker:
    def __init__(self):
        self.dead_letters = deque()

    def reject(self, number, body):
        self.dead_letters.append(Letter(f"message-{number}", body))  # truth: inserts allocates

    def close(self):
        self.dead_letters.clear()


def main():
    service = Service(rate=100)
    broker = Broker()
    for number in range(60_000):
        broker.reject(number, b"old")
    for number in service.measured(1_400):
        broker.reject(number, bytes(1_200))  # truth: allocates
        service.leaked(1_233)
    service.ready()
    for number in service.requests():
        service.churn()
        if service.due(1_400):
            broker.reject(number, bytes(1_200))  # truth: allocates
            service.leaked(1_233)


main()
