"""A small object-relational mapper: the identity map is weak, and that is not what keeps the rows."""

import weakref


class Row:
    def __init__(self, key, columns):
        self.key = key
        self.columns = columns


class UnitOfWork:
    def __init__(self):
        self.clean = []

    def seen(self, row):
        self.clean.append(row)  # truth: inserts allocates


class DatabaseSession:
    def __init__(self):
        self.identity_map = weakref.WeakValueDictionary()
        self._work = UnitOfWork()

    def load(self, key, size_bytes, read_only=False):
        row = self.identity_map.get(key)
        if row is None:
            row = Row(key, {"body": bytearray(size_bytes), "version": 1})  # truth: allocates
            self.identity_map[key] = row  # truth: allocates
        if not read_only:
            self._work.seen(row)
        return row

    def expire_all(self):
        for row in list(self.identity_map.values())[:10]:
            row.columns["version"] = 0
