r"""A pool of two threads that works off fewer jobs than are submitted; the queue between them is written in C.

Truth:
classes = ["backlog"]
holder = 'SimpleQueue|queue'
type = '(Job|bytearray)$'
"""

import dataclasses
import queue
import threading
import time

from service import Service


@dataclasses.dataclass
class Job:
    number: int
    picture: bytearray


def work(service, jobs, pause_s):
    while True:
        job = jobs.get()
        service.leaked(-len(job.picture), units=-1)
        time.sleep(pause_s)


def submit(service, jobs, number, size_bytes):
    jobs.put(Job(number, bytearray(size_bytes)))  # truth: allocates inserts
    service.leaked(size_bytes)


def main():
    service = Service(rate=80, mib_per_min=8)
    size_bytes = int(service.bytes_per_request / 0.5)
    jobs = queue.SimpleQueue()
    for number in service.measured(size_bytes, units=200):
        submit(service, jobs, -number, size_bytes)
    for _ in range(2):
        threading.Thread(target=work, args=(service, jobs, 4 / service.options.rate), daemon=True).start()
    service.ready()
    for number in service.requests():
        service.churn()
        submit(service, jobs, number, size_bytes)


main()
