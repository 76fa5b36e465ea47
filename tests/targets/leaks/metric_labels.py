r"""A server whose request counter has the user as a label: one child per user, in a library's dictionary.

Truth:
classes = ["python_leak"]
holder = 'vendored\.metrics\b.*\._children\b|REQUESTS\b.*\._children\b'
type = 'Child$|dict$'
"""

import asyncio

from service import Service
from vendored.metrics import Counter

REQUESTS = Counter("requests_total", ("method", "route", "user"))


async def main():
    service = Service(rate=200, mib_per_min=4)

    def count(user):
        REQUESTS.labels("GET", "/basket", user).inc()

    async def handle(request):
        service.churn()
        user = request.headers["x-user"]
        if user == "0" or service.due(1050):
            count(user)
            service.leaked(units=user != "0")
        return b"x" * service.random.randrange(100, 2000)

    def make_request(number):
        return "GET", "/basket", {"x-user": f"user-{number}" if number % 4 else "0"}, b""

    for number in service.measured(1050):
        count(f"user-{-number}")
        service.leaked()
    await service.serve_http(handle, make_request)


asyncio.run(main())
