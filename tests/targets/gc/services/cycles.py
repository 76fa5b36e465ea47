"""An order service whose orders and lines refer to each other: nothing large, but most of what the collector does."""

from paced import serve


class Line:
    def __init__(self, order, sku):
        self.order = order
        self.sku = sku


class Order:
    def __init__(self, number):
        self.lines = [Line(self, [number, sku]) for sku in range(40)]


async def place_order(number):
    return len(Order(number).lines)


serve(place_order, 400)
