"""A pricing service: a catalogue that never changes, and batches of rows that live for the length of one batch."""

from paced import serve

CATALOGUE = {number: [number, [number % 7, number % 11]] for number in range(100_000)}


class Row:
    def __init__(self, sku, parts):
        self.sku = sku
        self.parts = parts


async def price_batch(number):
    rows = [Row(sku, [CATALOGUE[sku], sku]) for sku in range(number % 1000, number % 1000 + 12_000)]
    return sum(row.parts[1] for row in rows)


serve(price_batch, 15)
