r"""A service with a raised threshold whose requests leave cycles: garbage waits for the collector, which does come.

Truth:
kind = "negative"
classes = ["none", "gc_debt"]
"""

import gc

from service import Service


class Node:
    def __init__(self):
        self.next = None
        self.payload = bytearray(900)


def handle():
    first, second = Node(), Node()
    first.next, second.next = second, first


def main():
    service = Service(rate=250)
    gc.set_threshold(5000, 3, 2)
    service.ready()
    for _ in service.requests():
        service.churn()
        handle()


main()
