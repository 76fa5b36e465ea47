r"""An importer that remembers each failed row's exception: the traceback keeps the frames, the frames keep the rows.

Truth:
classes = ["python_leak"]
holder = '\bFAILURES\b|\.failures\b'
type = 'BadRow$'
"""

from service import Service


class BadRow(ValueError):
    pass


class Importer:
    def __init__(self, service):
        self.service = service
        self.failures = []

    def parse(self, number, fields):
        line = bytes(15_000)  # truth: allocates
        if fields[0] == "broken":
            raise BadRow(f"row {number} has {len(line)} bytes too many")  # truth: allocates
        return line[:10]

    def take(self, number, fields):
        try:
            return self.parse(number, fields)  # truth: allocates
        except BadRow as error:
            self.failures.append(error)  # truth: inserts allocates
            self.service.leaked(15_000)
            return None


def main():
    service = Service(rate=60)
    importer = Importer(service)
    for number in service.measured(16_000, units=128):
        importer.take(number, ["broken"])
    service.ready()
    for number in service.requests():
        service.churn(lambda: BadRow("temporary"))
        importer.take(number, ["broken" if service.due(16_000) else "whole", str(number)])


main()
