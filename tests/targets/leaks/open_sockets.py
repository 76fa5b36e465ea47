r"""A worker that keeps a socket pair for each peer it talked to, none of them closed.

Truth:
classes = ["fd_leak"]
measured = "units"
holder = '\.peers\b'
type = 'socket$'
"""

import resource
import socket

from service import Service


class Directory:
    def __init__(self, service):
        self.service = service
        self.peers = []

    def greet(self, keep):
        ours, theirs = socket.socketpair()  # truth: allocates
        ours.send(b"hello")
        theirs.recv(5)
        if keep:
            self.peers.append((ours, theirs))  # truth: inserts allocates
            self.service.leaked(units=2)
        else:
            ours.close()
            theirs.close()


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    service = Service(rate=40, mib_per_min=0.15)
    directory = Directory(service)
    for _ in service.measured(400, units=32):
        directory.greet(keep=True)
    service.ready()
    for _ in service.requests():
        service.churn()
        directory.greet(keep=service.due(400))


main()
