r"""A task queue's client: the singleton of the result backend keeps a buffer for each task whose result was read.

Truth:
classes = ["python_leak"]
holder = '_pending_messages\b'
type = '(deque|Message)$'
"""

import collections
import typing
import uuid

from service import Service


class Message(typing.NamedTuple):
    task_id: str
    body: bytes
    headers: tuple


class Backend:
    _instance = None

    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
            cls._instance._pending_messages = {}
        return cls._instance

    def receive(self, message):
        buffer = self._pending_messages.get(message.task_id)
        if buffer is None:
            buffer = self._pending_messages[message.task_id] = collections.deque(maxlen=5)  # truth: inserts allocates
        buffer.append(message)

    def forget(self, task_id):
        self._pending_messages.pop(task_id, None)


def apply(service, forgetful):
    task_id = str(uuid.UUID(int=service.random.getrandbits(128)))  # truth: allocates
    message = Message(task_id, bytes(2500), ("utf-8", "json"))  # truth: allocates
    backend = Backend()
    backend.receive(message)
    if forgetful:
        backend.forget(task_id)
    else:
        service.leaked(2500)


def main():
    service = Service(rate=100)
    for _ in service.measured(3500):
        apply(service, forgetful=False)
    service.ready()
    for _ in service.requests():
        service.churn()
        apply(service, forgetful=not service.due(3500))


main()
