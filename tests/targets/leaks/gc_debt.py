r"""A service that switched the garbage collector off for speed while its requests leave cycles behind.

Nothing refers to the garbage: `gc.collect()` would free all of it, nobody calls it.

Truth:
classes = ["gc_debt"]
type = 'Node$|bytearray$'
"""

import gc

from service import Service


class Node:
    def __init__(self, size_bytes):
        self.children = []
        self.parent = None
        self.payload = bytearray(size_bytes)  # truth: allocates


def handle(service):
    root, leaf = Node(10), Node(40_000)  # truth: allocates
    root.children.append(leaf)
    leaf.parent = root
    service.leaked(40_000)


def main():
    service = Service(rate=60, mib_per_min=12)
    gc.disable()
    service.ready()
    for _ in service.requests():
        service.churn()
        if service.due(40_500):
            handle(service)


main()
