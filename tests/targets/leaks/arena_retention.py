r"""A threaded converter: each thread allocates and frees buffers of mixed sizes, so that glibc's arenas stay large.

Truth:
kind = "negative"
classes = ["none", "allocator_retention"]
"""

import queue
import random
import threading

from service import Service


def convert(chance, held):
    held.append(bytearray(chance.randrange(20_000, 120_000)))
    if len(held) > 12:
        del held[chance.randrange(len(held))]


def work(seed, jobs):
    chance, held = random.Random(seed), []
    while True:
        jobs.get()
        for _ in range(6):
            convert(chance, held)
        if chance.random() < 0.2:
            held.clear()


def main():
    service = Service(rate=100)
    jobs = queue.Queue(maxsize=1000)
    for number in range(8):
        threading.Thread(target=work, args=(service.options.seed + number, jobs), daemon=True).start()
    service.ready()
    for number in service.requests():
        service.churn()
        jobs.put(number)


main()
