r"""A job worker with one database session for its whole life.

Folklore blames the identity map, which is weak; the list of a unit of work inside the session keeps the rows.

Truth:
classes = ["python_leak"]
holder = '\.clean\b'
type = 'Row$'
"""

from service import Service
from vendored.orm import DatabaseSession


class Worker:
    def __init__(self, service):
        self.service = service
        self.session = DatabaseSession()
        self.next_key = 0

    def job(self):
        self.next_key += 1
        row = self.session.load(self.next_key, 6000)
        self.service.leaked()
        return row.columns["version"]

    def browse(self):
        self.next_key += 1
        return self.session.load(self.next_key, 900, read_only=True)


def main():
    service = Service(rate=70)
    worker = Worker(service)
    for _ in service.measured(6900, units=128):
        worker.job()
    service.ready()
    for number in service.requests():
        service.churn(worker.browse)
        if service.due(6900):
            worker.job()
        if number % 100 == 0:
            worker.session.expire_all()


main()
