r"""A service whose leak is of the same type as the 60,000 entries of a large dictionary that never changes.

A vote over all instances names the dictionary that does not grow.

Truth:
classes = ["python_leak"]
holder = '\.retired\b'
type = 'Contract$'
"""

from service import Service


class Contract:
    def __init__(self, number, text_bytes):
        self.number = number
        self.text = bytearray(text_bytes)  # truth: allocates


class Book:
    def __init__(self):
        self.contracts = {}
        self.retired = []

    def replace(self, number, text_bytes):
        contract = Contract(number, text_bytes)  # truth: allocates
        old, self.contracts[number] = self.contracts[number], contract
        self.retired.append(old)  # truth: inserts


def main():
    service = Service(rate=100, objects=100_000)
    book = Book()
    for number in range(60_000):
        book.contracts[number] = Contract(number, 2000)

    def replace():
        book.replace(service.random.randrange(60_000), 2000)
        service.leaked(2000)

    for _ in service.measured(2300):
        replace()
    service.ready()
    for _ in service.requests():
        service.churn(lambda: Contract(0, 500))
        if service.due(2300):
            replace()


main()
