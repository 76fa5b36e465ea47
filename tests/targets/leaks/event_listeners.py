r"""A dashboard that registers a listener per view, a closure over the view's data, and never takes one off.

The list is in a library, and its entries are put there by a decorator.

Truth:
classes = ["python_leak"]
holder = '_LISTENERS\b'
type = '(function|cell|View)$'
"""

from service import Service
from vendored import events


class View:
    def __init__(self, number):
        self.number = number
        self.series = [number * 0.5 + step for step in range(250)]  # truth: allocates

    def draw(self):
        return sum(self.series)


def open_view(service, number):
    view = View(number)  # truth: allocates

    @events.on("price-changed")  # truth: allocates
    def redraw(price):  # truth: allocates
        view.number = price

    service.leaked()
    return view


def main():
    service = Service(rate=60)
    for number in service.measured(8800, units=128):
        open_view(service, number)
    service.ready()
    for number in service.requests():
        service.churn(lambda: View(0))
        if service.due(8800):
            open_view(service, number).draw()
        events.emit("price-changed", number)


main()
