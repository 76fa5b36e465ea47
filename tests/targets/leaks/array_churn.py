r"""A picture service that makes and drops large arrays, of which the allocator keeps some.

Truth:
kind = "negative"
classes = ["none", "allocator_retention"]
"""

import array

from service import Service


def scale(service, width):
    source = array.array("d", bytes(8 * width * 100))
    rows = [source[start : start + width] for start in range(0, len(source), width)]
    return array.array("f", [row[0] for row in rows])


def main():
    service = Service(rate=20)
    scale(service, 6000)
    service.ready()
    for _ in service.requests():
        service.churn()
        scale(service, service.random.randrange(500, 6000))


main()
