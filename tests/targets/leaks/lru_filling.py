r"""A thumbnail service whose bounded cache is about half full after the recording.

Truth:
kind = "negative"
classes = ["filling", "undetermined"]
"""

import functools

from service import Service

SERVICE = Service(rate=60)
SIZE_BYTES = int(SERVICE.bytes_per_request)


@functools.lru_cache(maxsize=10_000)
def thumbnail(picture):
    return SERVICE.random.randbytes(SIZE_BYTES)


def main():
    for number in range(500):
        thumbnail(-number)
    SERVICE.ready()
    for number in SERVICE.requests():
        SERVICE.churn()
        thumbnail(number)
        thumbnail(max(number - SERVICE.random.randrange(400), 0))


main()
