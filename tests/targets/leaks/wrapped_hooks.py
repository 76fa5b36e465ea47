r"""A watcher that wraps its hook anew at each reload of the settings: every closure holds the one before.

Truth:
classes = ["python_leak"]
holder = '\.on_change\b|\bprevious\b'
type = 'function$'
"""

from service import Service


class Watcher:
    def __init__(self):
        self.on_change = lambda _change: None

    def reload(self, size_bytes):
        previous, settings = self.on_change, bytearray(size_bytes)  # truth: allocates

        def hook(change):
            return previous(change) if settings else None

        self.on_change = hook  # truth: inserts


def main():
    service = Service(rate=80)
    watcher = Watcher()
    for _number in service.measured(5_400, units=128):
        watcher.reload(5_000)
        service.leaked(5_057)
    service.ready()
    for _number in service.requests():
        service.churn()
        if service.due(5_400):
            watcher.reload(5_000)
            service.leaked(5_057)


main()
