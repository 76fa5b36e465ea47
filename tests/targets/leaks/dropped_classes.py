r"""A validator that makes a class per request and drops it: only a full collection frees classes, so memory is a saw.

Truth:
kind = "negative"
classes = ["none", "gc_debt"]
"""

import gc

from service import Service


def validate(fields):
    model = type("Model", (), {name: property(lambda self: None) for name in fields} | {"fields": fields})
    return model()


def main():
    service = Service(rate=120)
    gc.set_threshold(700, 10, 3)
    service.ready()
    for _ in service.requests():
        service.churn()
        validate(("name", "price", "stock"))


main()
