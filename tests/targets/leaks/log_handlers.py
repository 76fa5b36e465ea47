r"""A worker that gives the logger of its client library another handler for each job, because each job makes a client.

Truth:
classes = ["python_leak"]
holder = '\bhandlers\b'
type = 'Handler$'
"""

import logging

from service import Service


class BufferHandler(logging.Handler):
    def __init__(self, job):
        super().__init__()
        self.job = job
        self.lines = bytearray(2000)  # truth: allocates

    def emit(self, record):
        self.lines[:1] = b"!"


class Client:
    def __init__(self, service, job):
        self.log = logging.getLogger("warehouse.client")
        handler = BufferHandler(job)  # truth: allocates
        self.log.addHandler(handler)  # truth: inserts allocates
        service.leaked(2000)

    def fetch(self, service):
        return service.churn(lambda: bytearray(2000))


def main():
    service = Service(rate=50, mib_per_min=4)
    for number in service.measured(3200):
        Client(service, number)
    client = Client(service, 0)
    service.ready()
    for number in service.requests():
        if service.due(3200):
            client = Client(service, number)
        client.fetch(service)


main()
