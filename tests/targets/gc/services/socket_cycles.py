"""A probe service: each check opens a connection and forgets it in a cycle, so that only the collector closes it."""

import socket

from paced import serve

LISTENER = socket.create_server(("127.0.0.1", 0), backlog=512)
LISTENER.setblocking(False)


class Check:
    def __init__(self, address):
        self.connection = socket.create_connection(address)
        self.history = [[self, step] for step in range(20)]


async def probe(number):
    Check(LISTENER.getsockname())
    accepted, _ = LISTENER.accept()
    accepted.close()


serve(probe, 40)
