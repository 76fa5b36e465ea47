r"""A service that writes an audit row per request into a database in memory, which nobody ever empties.

Truth:
classes = ["native_leak"]
"""

import sqlite3

from service import Service

PAGE_BYTES = 4_096
"""A row takes a page for itself."""


def main():
    service = Service(rate=100)
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("create table audit (number integer, what text)")
    service.ready()
    for number in service.requests():
        service.churn()
        if service.due(PAGE_BYTES):
            database.execute("insert into audit values (?, ?)", (number, "w" * 3_500))  # truth: allocates
            database.commit()
            service.leaked(PAGE_BYTES)


main()
