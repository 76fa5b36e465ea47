r"""A cache without a declared limit that becomes full a third into the recording, and stays so.

Truth:
kind = "negative"
classes = ["none", "filling", "undetermined"]
"""

from service import Service


def main():
    service = Service(rate=100)
    answers = {}
    service.ready()
    for number in service.requests():
        service.churn()
        answers[number] = bytes(int(service.bytes_per_request))
        if len(answers) > 2200:
            del answers[next(iter(answers))]


main()
