r"""A job runner whose workspaces each ask to be removed when the interpreter ends: the table of atexit keeps them.

The table is in C. No object that the collector can see refers to the workspaces.

Truth:
classes = ["python_leak"]
holder = 'atexit|native'
type = 'Workspace$|method$'
"""

import atexit

from service import Service


class Workspace:
    def __init__(self, number):
        self.number = number
        self.index = bytearray(5000)  # truth: allocates
        atexit.register(self.remove)  # truth: inserts allocates

    def remove(self):
        self.index.clear()


def main():
    service = Service(rate=60)
    for number in service.measured(5300):
        Workspace(number)
        service.leaked(5000)
    service.ready()
    for number in service.requests():
        service.churn(lambda: bytearray(5000))
        if service.due(5300):
            Workspace(number)  # truth: allocates
            service.leaked(5000)


main()
