"""A shop: FastAPI, SQLAlchemy and PostgreSQL. `python fastapi_shop.py DATABASE_URL PORT [leak]`, prints `ready PID`.

With `leak`, `place_order` takes a connection for the audit log and gives it back on the usual path only.
"""

import sys
from contextlib import asynccontextmanager

import sqlalchemy as sa
import uvicorn
from fastapi import Depends, FastAPI, HTTPException

URL, PORT, LEAKS = sys.argv[1], int(sys.argv[2]), "leak" in sys.argv[3:]
engine = sa.create_engine(URL.replace("postgresql://", "postgresql+psycopg://"), pool_size=20, max_overflow=20)
audits = []


@asynccontextmanager
async def lifespan(app):
    with engine.begin() as connection:
        connection.execute(sa.text("create table if not exists orders (id serial primary key, item int)"))
    print("ready", __import__("os").getpid(), flush=True)
    yield


app = FastAPI(lifespan=lifespan)


def database():
    with engine.connect() as connection:
        yield connection


class Audit:
    def __init__(self, connection):
        self.connection = connection


def open_audit():
    audit = Audit(engine.connect())
    audits.append(audit)
    return audit


@app.get("/items/{item}")
def show_item(item: int, connection=Depends(database)):
    return {"item": item, "orders": connection.execute(sa.text("select count(*) from orders")).scalar()}


@app.post("/orders/{item}")
def place_order(item: int):
    audit = open_audit()
    audit.connection.execute(sa.text("insert into orders (item) values (:item)"), {"item": item})
    if item % 7 == 0:
        if not LEAKS:
            audit.connection.close()
            audits.remove(audit)
        raise HTTPException(409, "sold out")
    audit.connection.commit()
    audit.connection.close()
    audits.remove(audit)
    return {"item": item}


@app.get("/report")
def slow_report(connection=Depends(database)):
    connection.execute(sa.text("select pg_sleep(1.5)"))
    return {}


uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
