r"""A busy HTTP service that keeps nothing.

Truth:
kind = "negative"
classes = ["none"]
"""

import asyncio

from service import Service


async def main():
    service = Service(rate=200)

    async def handle(request):
        service.churn()
        await asyncio.sleep(service.random.expovariate(200))
        return bytes(service.random.randrange(100, 20_000))

    await service.serve_http(handle, lambda number: ("GET", f"/{number}", {"x-id": str(number)}, b""))


asyncio.run(main())
