r"""A server that starts a heartbeat thread per client and stops none of them when the client goes.

Truth:
classes = ["thread_leak"]
measured = "units"
type = '(Heartbeat|Event|Condition|lock)$'
"""

import threading

from service import Service


class Heartbeat(threading.Thread):
    def __init__(self, client):
        super().__init__(name=f"heartbeat-{client}", daemon=True)
        self.client = client
        self.done = threading.Event()  # truth: allocates
        self.seen = bytearray(2000)  # truth: allocates

    def run(self):
        while not self.done.wait(30):
            self.seen[0] ^= 1


def accept(service, number, forgetful):
    heartbeat = Heartbeat(number)  # truth: allocates
    heartbeat.start()  # truth: allocates inserts
    if forgetful:
        service.leaked(2000)
    else:
        heartbeat.done.set()
        heartbeat.join()


def main():
    threading.stack_size(256 * 1024)
    service = Service(rate=20, mib_per_min=0.6)
    service.ready()
    for number in service.requests():
        service.churn()
        accept(service, number, forgetful=service.due(10_000))


main()
