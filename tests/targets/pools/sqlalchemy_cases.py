"""SQLAlchemy, threads and asyncio: `python sqlalchemy_cases.py CASE DATABASE_URL`, prints `ready PID`."""

import asyncio
import os
import sys
import threading
import time

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

CASE, URL = sys.argv[1:3]
kept = []


def thread_engine(**more):
    return sa.create_engine(URL.replace("postgresql://", "postgresql+psycopg://"), **more)


def load_session(session):
    return session.execute(sa.text("select 1")).scalar()  # HERE: kept_session


def kept_session():
    """Sessions that are kept in a list after they failed, instead of being closed."""
    engine = thread_engine(pool_size=90, max_overflow=50)

    def request(number):
        session = Session(engine)
        load_session(session)
        if number % 7 == 3:
            kept.append(session)
            return
        session.close()

    def worker(number):
        while True:
            number += 1
            request(number)
            time.sleep(0.15)

    run(worker, 3)


def collected():
    """Connections that nobody closes: they come back when the garbage collector finds them."""
    engine = thread_engine(pool_size=30, max_overflow=20)

    class Unit:
        def __init__(self):
            self.connection = engine.connect()  # HERE: collected
            self.me = self

    def worker(number):
        while True:
            Unit().connection.execute(sa.text("select 1"))
            [[] for _ in range(300)]
            time.sleep(0.02)
            kept.append([[] for _ in range(50)])

    run(worker, 2)


def quiet_moments(**more):
    """Bursts of requests, and rests that are longer than the server lets a session idle."""
    options = {"options": "-c idle_session_timeout=1200"}
    engine = thread_engine(pool_size=2, max_overflow=0, connect_args=options, **more)

    def request():
        with engine.connect() as connection:  # HERE: stale
            connection.execute(sa.text("select 1"))

    while True:
        for _ in range(10):
            try:
                request()
            except sa.exc.OperationalError:
                pass  # a 502, say
            time.sleep(0.05)
        time.sleep(2)


def stale():
    """Nobody looks whether the server has ended a session before it is used again."""
    quiet_moments()


def pre_ping():
    """The pool looks."""
    quiet_moments(pool_pre_ping=True)


def seldom():
    """Jobs that come more seldom than the server lets a session idle: every use finds its connection closed."""
    options = {"options": "-c idle_session_timeout=700"}
    engine = thread_engine(pool_size=4, connect_args=options)

    def job():
        with engine.connect() as connection:  # HERE: seldom
            connection.execute(sa.text("select 1"))

    def worker(number):
        time.sleep(number * 0.3)
        while True:
            try:
                job()
            except sa.exc.OperationalError:
                pass
            time.sleep(1.9)

    run(worker, 3)


def no_pool():
    """An engine without a pool, as behind a pooler of the database."""
    engine = thread_engine(poolclass=sa.NullPool)

    def worker(number):
        while True:
            with engine.connect() as connection:
                connection.execute(sa.text("select 1"))
            time.sleep(0.1)

    run(worker, 3)


def scoped():
    """A session per request that is closed in time."""
    engine = thread_engine(pool_size=4, max_overflow=0)

    def worker(number):
        while True:
            with Session(engine) as session:
                session.execute(sa.text("select pg_sleep(0.004)"))
                session.commit()

    run(worker, 6)


async def async_leak():
    """Sessions of asyncio that are not closed when something fails."""
    engine = create_async_engine(URL.replace("postgresql://", "postgresql+asyncpg://"), pool_size=50)

    async def handler(number):
        session = AsyncSession(engine)
        await session.execute(sa.text("select 1"))  # HERE: async_leak
        if number % 5 == 2:
            kept.append(session)
            return
        await session.close()

    number = 0
    while True:
        number += 1
        asyncio.create_task(handler(number))
        await asyncio.sleep(0.15)


async def async_healthy():
    """Sessions of asyncio, closed in time, some of them slow."""
    engine = create_async_engine(URL.replace("postgresql://", "postgresql+asyncpg://"), pool_size=10)

    async def handler(number):
        async with AsyncSession(engine) as session:
            await session.execute(sa.text(f"select pg_sleep({3 if number % 40 == 0 else 0.01})"))

    number = 0
    while True:
        number += 1
        asyncio.create_task(handler(number))
        await asyncio.sleep(0.1)


def run(worker, count):
    for number in range(count):
        threading.Thread(target=worker, args=(number * 2,), daemon=True).start()


print("ready", os.getpid(), flush=True)
if CASE.startswith("async_"):
    asyncio.run(asyncio.wait_for(globals()[CASE](), 300))
else:
    globals()[CASE]()
    time.sleep(300)
