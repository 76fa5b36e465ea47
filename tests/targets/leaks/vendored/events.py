"""A small event bus: listeners by the name of the event."""

_LISTENERS = {}


def on(event):
    """Return a decorator that makes a function a listener."""

    def register(listener):
        _LISTENERS.setdefault(event, []).append(listener)  # truth: inserts allocates
        return listener

    return register


def emit(event, *arguments):
    for listener in _LISTENERS.get(event, ())[:5]:
        listener(*arguments)
