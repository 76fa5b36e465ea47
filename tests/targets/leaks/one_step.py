r"""A service that loads a model once, in the middle of its day: memory grows by 60 MiB in one step.

Truth:
kind = "negative"
classes = ["none", "undetermined"]
"""

import time

from service import Service


def main():
    service = Service(rate=100)
    model, began = {}, time.monotonic()
    service.ready()
    for _ in service.requests():
        service.churn()
        if not model and time.monotonic() - began > 30:
            for layer in range(60):
                model[layer] = [bytearray(1 << 20), [float(layer + place) for place in range(200)]]


main()
