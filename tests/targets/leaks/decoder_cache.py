r"""A collector of telemetry that builds a decoder per device and keeps it by the whole device string, version included.

The cache is a class attribute; each firmware update makes new keys.

Truth:
classes = ["python_leak"]
holder = 'Decoder\b.*\b_by_agent\b'
type = '(Decoder|dict)$'
"""

import json
import queue
import threading

from service import Service


class Decoder:
    _by_agent = {}

    def __init__(self, agent):
        self.agent = agent
        self.table = {number: f"{agent}-{number}" for number in range(12)}  # truth: allocates
        self.scratch = bytearray(1500)  # truth: allocates

    @classmethod
    def of(cls, agent):
        decoder = cls._by_agent.get(agent)
        if decoder is None:
            decoder = cls(agent)  # truth: allocates
            cls._by_agent[agent] = decoder  # truth: inserts allocates
        return decoder

    def decode(self, line):
        return json.loads(line)


def work(service, lines):
    while True:
        agent, line = lines.get()
        decoder = Decoder.of(agent)
        decoder.decode(line)
        service.churn(lambda: Decoder("temporary"))
        lines.task_done()


def main():
    service = Service(rate=150, mib_per_min=5)
    lines = queue.Queue(maxsize=1000)
    known = [f"meter/1.{number}" for number in range(40)]

    def agent(number):
        if service.due(3600):
            service.leaked()
            return f"meter/2.{number}.{service.random.getrandbits(32)}"
        return known[number % len(known)]

    for number in service.measured(3600):
        Decoder.of(agent(-number))
    for _ in range(3):
        threading.Thread(target=work, args=(service, lines), daemon=True).start()
    service.ready()
    for number in service.requests():
        lines.put((agent(number), json.dumps({"device": number, "values": list(range(20))})))


main()
