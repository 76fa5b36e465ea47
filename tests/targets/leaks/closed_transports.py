r"""A client whose connector keeps each TLS transport that was closed, to be cleaned up later; later never comes.

Truth:
classes = ["python_leak"]
holder = '\.cleanup_closed\b'
type = 'Transport$|MemoryBIO$|SSLObject$'
"""

import ssl

from service import Service


class Transport:
    __slots__ = ("context", "incoming", "outgoing", "tls", "received", "peer")

    def __init__(self, context, peer):
        self.peer = peer
        self.incoming = ssl.MemoryBIO()  # truth: allocates
        self.outgoing = ssl.MemoryBIO()  # truth: allocates
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=peer)  # truth: allocates
        self.received = None

    def handshake(self):
        try:
            self.tls.do_handshake()  # truth: allocates
        except ssl.SSLWantReadError:
            pass

    def receive(self, size_bytes):
        self.received = bytes(size_bytes)  # truth: allocates


class Connector:
    def __init__(self, service):
        self.service = service
        self.context = ssl.create_default_context()
        self.idle = []
        self.cleanup_closed = []

    def connect(self, number):
        transport = Transport(self.context, f"backend-{number % 9}.test")  # truth: allocates
        transport.receive(20_000)
        return transport

    def release(self, transport, broken):
        if broken:
            self.cleanup_closed.append(transport)  # truth: inserts allocates
            self.service.leaked(len(transport.received))
        else:
            self.idle.append(transport)
            del self.idle[:-10]


def main():
    service = Service(rate=40, mib_per_min=12)
    connector = Connector(service)
    for number in service.measured(20_000, units=64):
        connector.release(connector.connect(number), broken=True)
    service.ready()
    for number in service.requests():
        service.churn()
        transport = connector.connect(number)
        connector.release(transport, broken=service.due(22_000))


main()
