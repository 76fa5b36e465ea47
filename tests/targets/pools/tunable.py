"""A pool under steady use: `python tunable.py LIBRARY SIZE WORKERS URL [PATIENCE_S]`, prints `ready PID`; a line on stdin: settings.

Workers use a connection for some milliseconds and rest as long: whether they wait depends on the size alone.
"""

import json
import os
import sys
import threading
import time

LIBRARY, SIZE, WORKERS, URL = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
HOLD_S = 0.008
PATIENCE_S = float(sys.argv[5]) if len(sys.argv) > 5 else 5.0


def with_sqlalchemy():
    import sqlalchemy as sa

    url = URL.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url, pool_size=SIZE, max_overflow=0, pool_timeout=PATIENCE_S)

    def use():
        with engine.connect() as connection:
            connection.execute(sa.text(f"select pg_sleep({HOLD_S})"))

    pool = engine.pool
    return use, lambda: {
        "size": pool.size(),
        "max_overflow": pool._max_overflow,
        "recycle": pool._recycle,
        "open": pool.size() + pool._overflow,
        "idle": pool.checkedin(),
    }


def with_psycopg_pool():
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(URL, min_size=SIZE, max_size=SIZE, timeout=PATIENCE_S, open=True, kwargs={"autocommit": True})
    pool.wait()

    def use():
        with pool.connection() as connection:
            connection.execute(f"select pg_sleep({HOLD_S})")

    return use, lambda: {
        "size": pool.max_size,
        "min_size": pool.min_size,
        "max_lifetime": pool.max_lifetime,
        "open": pool.get_stats()["pool_size"],
        "idle": pool.get_stats()["pool_available"],
    }


def work(use):
    while True:
        try:
            use()
        except Exception as error:
            if "imeout" not in type(error).__name__:
                raise
        time.sleep(HOLD_S)


use, settings = {"sqlalchemy": with_sqlalchemy, "psycopg_pool": with_psycopg_pool}[LIBRARY]()
for _ in range(WORKERS):
    threading.Thread(target=work, args=(use,), daemon=True).start()
print("ready", os.getpid(), flush=True)
for _line in sys.stdin:
    print(json.dumps(settings()), flush=True)
