r"""A report service whose method is cached without a limit: the cache's keys keep each report alive.

Truth:
classes = ["python_leak"]
holder = '\btotals\b'
type = 'Report$'
"""

import functools

from service import Service


class Report:
    def __init__(self, customer, rows):
        self.customer = customer
        self.rows = rows
        self.notes = {"state": "draft", "pages": len(rows) // 50}

    @functools.lru_cache(maxsize=None)  # truth: inserts
    def totals(self, currency):
        return sum(self.rows), currency

    def preview(self):
        return sum(self.rows[:10])


def build(service, number):
    rows = [service.random.random() for _ in range(300)]  # truth: allocates
    return Report(number, rows)  # truth: allocates


def render(service, number):
    report = build(service, number)
    service.leaked()
    return report.totals("EUR")  # truth: inserts allocates


def main():
    service = Service(rate=60)
    for number in service.measured(10_500):
        render(service, number)
    service.ready()
    for number in service.requests():
        service.churn(lambda: build(service, 0))
        if service.due(10_500):
            render(service, number)


main()
