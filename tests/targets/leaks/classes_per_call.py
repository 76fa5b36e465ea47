r"""A poller that makes a decoder class anew at each poll and registers it under the poll's id.

Truth:
classes = ["python_leak"]
holder = '\bREGISTRY\b'
type = '(type|function|getset_descriptor|dict|Decoder)$'
"""

import uuid

from service import Service

REGISTRY = {}


def make_decoder(fields):
    def decode(self, text):
        return text.split(self.separator)

    names = {name: property(lambda self: None) for name in fields}  # truth: allocates
    return type("Decoder", (), {"separator": ",", "decode": decode, **names})  # truth: allocates


def poll(service, number):
    decoder = make_decoder(("temperature", "humidity", "pressure"))  # truth: allocates
    REGISTRY[str(uuid.UUID(int=service.random.getrandbits(128)))] = decoder  # truth: inserts allocates
    service.leaked()
    return decoder().decode("1,2,3")


def main():
    service = Service(rate=60, mib_per_min=4)
    for number in service.measured(2600, units=128):
        poll(service, number)
    service.ready()
    for number in service.requests():
        service.churn()
        if service.due(2600):
            poll(service, number)


main()
