r"""A shop whose login keeps each session in a module's dictionary and never expires one.

Truth:
classes = ["python_leak"]
holder = '\bSESSIONS\b'
type = 'Session$'
"""

import asyncio
import dataclasses
import time

from service import Service

SESSIONS = {}


@dataclasses.dataclass
class Session:
    token: str
    user: int
    opened_at: float
    basket: list
    page: bytes


def login(service, user):
    token = f"{service.random.getrandbits(96):024x}"
    page = service.random.randbytes(3000)  # truth: allocates
    session = Session(token, user, time.time(), [user % 7, user % 11], page)  # truth: allocates
    SESSIONS[token] = session  # truth: inserts allocates
    service.leaked(len(page))
    return token


def anonymous(service):
    return Session("", 0, time.time(), [], service.random.randbytes(300))


async def main():
    service = Service(rate=120)

    async def handle(request):
        service.churn(lambda: anonymous(service))
        if request.path.startswith("/login") and service.due(3300):
            return login(service, int(request.headers["x-user"])).encode()
        return b"x" * service.random.randrange(100, 4000)

    def make_request(number):
        path = "/login" if number % 2 else f"/product/{number % 999}"
        return "GET", path, {"x-user": str(number)}, b""

    for number in service.measured(3300):
        login(service, number)
    await service.serve_http(handle, make_request)


asyncio.run(main())
