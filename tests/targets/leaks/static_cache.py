r"""A service with a large dictionary whose entries are replaced all the time, and whose number stays.

The first ones share one number, the others have twenty of their own: memory grows until all have been replaced.

Truth:
kind = "negative"
classes = ["none", "filling"]
"""

import dataclasses

from service import Service


@dataclasses.dataclass
class Quote:
    symbol: int
    price: float
    history: list


def main():
    service = Service(rate=250, objects=100_000)
    quotes = {number: Quote(number, 1.0, [1.0] * 20) for number in range(80_000)}
    service.ready()
    for number in service.requests():
        service.churn()
        symbol = service.random.randrange(80_000)
        quotes[symbol] = Quote(symbol, number * 0.5, [float(number + step) for step in range(20)])


main()
