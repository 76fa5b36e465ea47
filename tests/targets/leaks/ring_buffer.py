r"""A service with a flight recorder, a ring of the last 40,000 events, that is not yet full.

Truth:
kind = "negative"
classes = ["filling", "undetermined"]
"""

import collections

from service import Service


class Recorder:
    def __init__(self):
        self.events = collections.deque(maxlen=40_000)

    def add(self, service, number):
        self.events.append({"number": number, "text": bytes(int(service.bytes_per_request))})


def main():
    service = Service(rate=100)
    recorder = Recorder()
    service.ready()
    for number in service.requests():
        service.churn()
        recorder.add(service, number)


main()
