"""A master with two forked workers that compute, as gunicorn does it."""

import os
import sys


def work():
    print("worker", os.getpid(), flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        sum(number * number for number in range(20_000))


for _ in range(2):
    if os.fork() == 0:
        work()
        os._exit(0)
print("ready", flush=True)
sys.stdin.read()
