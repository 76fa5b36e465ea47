r"""A service after a burst: two million small objects came and went, one in a hundred stayed and pins the arenas.

Truth:
kind = "negative"
classes = ["none", "allocator_retention"]
"""

from service import Service


def main():
    service = Service(rate=100)
    burst = [str(number) * 3 for number in range(1_000_000)]
    kept = burst[::100]
    del burst
    service.ready()
    for number in service.requests():
        service.churn()
        kept[number % len(kept)] = str(number) * 3


main()
