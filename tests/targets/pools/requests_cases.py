"""requests over urllib3: `python requests_cases.py CASE UPSTREAM_URL`, prints `ready PID`."""

import os
import sys
import threading
import time

import requests

CASE, URL = sys.argv[1:3]
kept = []


def unread(session):
    """Streams that are not read to the end when the answer is an error."""

    def fetch(number):
        status = 503 if number % 6 == 5 else 200
        answer = session.get(f"{URL}/?status={status}&size_bytes=100000", stream=True)  # HERE: unread
        if answer.status_code == 503:
            kept.append(answer)
            return None
        return answer.content

    def worker(number):
        while True:
            number += 1
            fetch(number)
            time.sleep(0.15)

    run(worker, 3)


def healthy(session):
    """Threads that share a session of the right size."""

    def worker(number):
        while True:
            session.get(f"{URL}/?latency_ms=3").content
            time.sleep(0.01)

    run(worker, 8)


def downloads(session):
    """Long downloads that are read as they come."""

    def worker(number):
        while True:
            for _ in session.get(f"{URL}/?framing=chunked&piece_delay_ms=400&size_bytes=3000000", stream=True):
                pass

    def others(number):
        while True:
            session.get(f"{URL}/").content
            time.sleep(0.1)

    run(worker, 5)
    run(others, 1)


def client_per_request(session):
    """Connections of some milliseconds, which no look at sockets from outside meets."""

    def worker(number):
        while True:
            requests.get(f"{URL}/?latency_ms=2").content  # HERE: client_per_request
            time.sleep(0.1)

    run(worker, 3)


def few_kept(session):
    """More threads than the pool keeps connections: most are closed as soon as they come back."""
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=2))

    def worker(number):
        while True:
            session.get(f"{URL}/?latency_ms=50").content  # HERE: few_kept
            time.sleep(0.02)

    run(worker, 12)


def run(worker, count):
    for number in range(count):
        threading.Thread(target=worker, args=(number * 2,), daemon=True).start()


with requests.Session() as session:
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=10))
    session.get(URL).content
    print("ready", os.getpid(), flush=True)
    globals()[CASE](session)
    time.sleep(300)
