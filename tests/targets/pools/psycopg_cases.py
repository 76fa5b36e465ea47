"""psycopg_pool with threads: `python psycopg_cases.py CASE DATABASE_URL`, prints `ready PID`."""

import os
import sys
import threading
import time

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

CASE, URL = sys.argv[1:3]
kept = []


def query(pool, number):
    connection = pool.getconn()  # HERE: leak
    connection.execute("select 1")
    if number % 8 == 7:
        kept.append(connection)  # to be continued, which nobody does
        return
    pool.putconn(connection)


def leak(pool):
    """A thread per worker; some requests keep their connection."""

    def worker(number):
        while True:
            number += 1
            query(pool, number)
            time.sleep(0.2)

    run(worker, 3)


def threads_that_end(pool):
    """A thread per request that ends without giving its connection back."""

    def request(number):
        connection = pool.getconn()  # HERE: threads_that_end
        connection.execute("select 1")
        if number % 4:
            pool.putconn(connection)
        else:
            kept.append(connection)

    number = 0
    while True:
        number += 1
        threading.Thread(target=request, args=(number,), daemon=True).start()
        time.sleep(0.25)


def busy(pool):
    """As many threads as connections and a few more, short uses."""

    def worker(number):
        while True:
            with pool.connection() as connection:
                connection.execute("select pg_sleep(0.004)")

    run(worker, 6)


def one_long_report(pool):
    """Short uses and a report that takes longer than the recording."""

    def worker(number):
        while True:
            with pool.connection() as connection:
                connection.execute("select 1")
            time.sleep(0.05)

    def report(number):
        with pool.connection() as connection:
            connection.execute("select pg_sleep(120)")

    run(worker, 2)
    time.sleep(2)
    run(report, 2)


def generator(pool):
    """A connection that one call takes and another gives back, as web frameworks' dependencies do."""

    def dependency():
        with pool.connection() as connection:
            yield connection

    def worker(number):
        while True:
            number += 1
            each = dependency()
            next(each).execute(f"select pg_sleep({2 if number % 10 == 0 else 0.01})")
            each.close()
            time.sleep(0.05)

    run(worker, 3)


def exhausted(pool):
    """More work than connections: many wait in vain."""

    def worker(number):
        while True:
            try:
                with pool.connection(timeout=0.4) as connection:  # HERE: exhausted
                    connection.execute("select pg_sleep(0.3)")
            except PoolTimeout:
                pass

    run(worker, 10)


def lifetime(pool):
    """A lifetime of two seconds, and connections that are idle for longer."""
    while True:
        with pool.connection() as connection:  # HERE: lifetime
            connection.execute("select 1")
        time.sleep(1.4)


def waits_for_others(pool):
    """A connection is held while something else is waited for, that needs none."""

    def fetch_price():
        time.sleep(0.3)  # an HTTP request, say  # HERE: waits_for_others

    def worker(number):
        while True:
            with pool.connection() as connection:
                connection.execute("select 1")
                fetch_price()

    run(worker, 6)


def quiet_moments(pool, use):
    """Bursts of requests, and rests that are longer than the server lets a session idle."""
    while True:
        for _ in range(10):
            try:
                use(pool)
            except psycopg.OperationalError:
                pass  # a 502, say
            time.sleep(0.05)
        time.sleep(2)


def stale(pool):
    """The server ends sessions that idle for 1.2 seconds, and nobody looks before they are used again."""

    def use(pool):
        with pool.connection() as connection:  # HERE: stale
            connection.execute("select 1")

    quiet_moments(pool, use)


def checked(pool):
    """The same server, but the pool looks before it lends a connection."""

    def use(pool):
        with pool.connection() as connection:
            connection.execute("select 1")

    quiet_moments(pool, use)


def run(worker, count):
    for number in range(count):
        threading.Thread(target=worker, args=(number * 3,), daemon=True).start()


sizes = {
    "busy": (4, 4),
    "exhausted": (2, 2),
    "lifetime": (4, 4),
    "waits_for_others": (4, 4),
    "stale": (2, 2),
    "checked": (2, 2),
}
small, large = sizes.get(CASE, (2, 60))
more = {"max_lifetime": 2 if CASE == "lifetime" else 3600, "kwargs": {"autocommit": True}}
if CASE in ("stale", "checked"):
    more["kwargs"]["options"] = "-c idle_session_timeout=1200"
if CASE == "checked":
    more["check"] = ConnectionPool.check_connection
with ConnectionPool(URL, min_size=small, max_size=large, **more) as pool:
    pool.wait()
    print("ready", os.getpid(), flush=True)
    globals()[CASE](pool)
    time.sleep(300)
