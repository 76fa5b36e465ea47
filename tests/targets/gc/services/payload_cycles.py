"""A download gateway: each answer and its stream refer to one another, as in httpx, and hold the body."""

from paced import serve


class Stream:
    def __init__(self, response, body):
        self.response = response
        self.body = body


class Response:
    def __init__(self, number, body):
        self.headers = [[f"x-{i}", [number]] for i in range(12)]
        self.stream = Stream(self, body)


async def download(number):
    response = Response(number, bytes(256 * 1024))
    return len(response.stream.body)


serve(download, 60)
