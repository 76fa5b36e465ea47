"""A small metrics client: counters with labels, one child per combination of label values."""

import threading


class Child:
    __slots__ = ("labels", "value", "created", "lock", "exemplar")

    def __init__(self, labels):
        self.labels = labels
        self.value = 0.0
        self.created = 0.0
        self.lock = threading.Lock()  # truth: allocates
        self.exemplar = bytearray(400)  # truth: allocates

    def inc(self, amount=1.0):
        with self.lock:
            self.value += amount


class Counter:
    def __init__(self, name, label_names):
        self.name = name
        self.label_names = label_names
        self._children = {}
        self._lock = threading.Lock()

    def labels(self, *values):
        key = tuple(str(value) for value in values)  # truth: allocates
        with self._lock:
            child = self._children.get(key)
            if child is None:
                child = Child(dict(zip(self.label_names, key)))  # truth: allocates
                self._children[key] = child  # truth: inserts allocates
            return child
