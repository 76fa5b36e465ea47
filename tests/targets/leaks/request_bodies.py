r"""A gateway that keeps the body of each request it forwards to a slow backend, for a retry that nobody asks for.

No type of its own piles up: plain bytearrays in a plain list, held by an attribute of the gateway.

Truth:
classes = ["python_leak"]
holder = '\.unconfirmed\b'
type = 'bytearray$'
"""

import asyncio

from service import Service


class Gateway:
    def __init__(self, service):
        self.service = service
        self.unconfirmed = []

    async def handle(self, request):
        body = bytes(memoryview(request.body))
        await asyncio.sleep(0.002)
        self.service.churn(lambda: bytes(800))
        if self.service.due(len(body)):
            self.forward_later(body)
        return b"accepted"

    def forward_later(self, body):
        self.unconfirmed.append(bytearray(body))  # truth: allocates inserts
        self.service.leaked(len(body))


async def main():
    service = Service(rate=80)
    gateway = Gateway(service)

    def make_request(number):
        return "POST", "/orders", {}, bytes(service.random.randrange(500, 8000))

    for _ in service.measured(8000):
        gateway.forward_later(bytes(service.random.randrange(500, 8000)))
    await service.serve_http(gateway.handle, make_request)


asyncio.run(main())
