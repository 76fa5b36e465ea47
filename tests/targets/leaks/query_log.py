r"""A threaded server left in debug mode: each thread's database connection logs the text of all its queries.

The list hangs on a thread-local; the main thread cannot see it.

Truth:
classes = ["python_leak"]
holder = '\bqueries\b|local'
type = '(dict|str|Query)$'
"""

import queue
import threading
import time

from service import Service

STATE = threading.local()


class Connection:
    def __init__(self):
        self.queries = []

    def execute(self, service, sql, arguments, log):
        began = time.perf_counter()
        text = sql.replace("?", repr(arguments))  # truth: allocates
        service.churn(lambda: {"sql": "select 1", "time": 0.0})
        if log:
            entry = {"sql": text, "time": time.perf_counter() - began}  # truth: allocates
            self.queries.append(entry)  # truth: inserts allocates
            service.leaked(len(text))


def connection():
    if not hasattr(STATE, "connection"):
        STATE.connection = Connection()
    return STATE.connection


def query(service, number, log):
    arguments = [number + place for place in range(200)]
    connection().execute(service, "select * from orders where id in (?) order by placed_at", arguments, log)


def work(service, jobs, begun):
    for number in range(20):
        query(service, number, log=False)
    begun.release()
    while True:
        number, log = jobs.get()
        query(service, number, log)


def main():
    service = Service(rate=100, mib_per_min=5)
    for number in service.measured(1700):
        query(service, number, log=True)
    jobs, begun = queue.Queue(maxsize=1000), threading.Semaphore(0)
    for _ in range(4):
        threading.Thread(target=work, args=(service, jobs, begun), daemon=True).start()
        begun.acquire()
    service.ready()
    for number in service.requests():
        jobs.put((number, service.due(1700)))


main()
