r"""A busy service with a small leak: 1 MiB per minute of slotted objects in a list of an object in a module.

Truth:
classes = ["python_leak"]
holder = '\.entries\b'
type = 'Entry$'
"""

from service import Service


class Entry:
    __slots__ = ("user", "action", "at", "detail")

    def __init__(self, user, action, at):
        self.user = user
        self.action = action
        self.at = at
        self.detail = f"{action} by {user} at {at}" * 3  # truth: allocates


class Audit:
    def __init__(self):
        self.entries = []

    def write(self, user, action, at):
        self.entries.append(Entry(user, action, at))  # truth: allocates inserts


AUDIT = Audit()


def main():
    service = Service(rate=300, mib_per_min=1)
    for number in service.measured(310, units=1000):
        AUDIT.write(f"user-{number:06d}", "login", 100_000.25 + number)
        service.leaked()
    service.ready()
    for number in service.requests():
        service.churn(lambda: Entry("nobody", "look", 0.0))
        if service.due(310):
            AUDIT.write(f"user-{number:06d}", "login", 100_000.25 + number)  # truth: allocates
            service.leaked()


main()
