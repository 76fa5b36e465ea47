r"""A server that starts a thread per request and keeps each thread object, result and all, after it ended.

Truth:
classes = ["python_leak"]
holder = '\bJOBS\b'
type = '(Job|Event|Condition|lock|deque)$'
"""

import threading

from service import Service

JOBS = []


class Job(threading.Thread):
    def __init__(self, number):
        super().__init__(name=f"job-{number}")
        self.number = number
        self.result = None

    def run(self):
        self.result = bytearray(9000)  # truth: allocates


def start(service, number, keep):
    job = Job(number)  # truth: allocates
    job.start()
    job.join()
    if keep:
        JOBS.append(job)  # truth: inserts allocates
        service.leaked(9000)


def main():
    service = Service(rate=50)
    for number in service.measured(11_000, units=64):
        start(service, number, keep=True)
    service.ready()
    for number in service.requests():
        service.churn()
        start(service, number, keep=service.due(11_000))


main()
