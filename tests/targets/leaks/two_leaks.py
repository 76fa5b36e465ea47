r"""A service with two leaks at once: events in an instance's list, and three times slower, plans in a closure's dict.

The faster one is the right answer; both are true. The books have the faster one only.

Truth:
classes = ["python_leak"]
holder = '\.events\b'
type = 'Event$|bytearray$'
"""

from service import Service


class Event:
    def __init__(self, number):
        self.number = number
        self.body = bytearray(4000)  # truth: allocates


class Journal:
    def __init__(self):
        self.events = []

    def add(self, number):
        self.events.append(Event(number))  # truth: allocates inserts


def make_planner():
    plans = {}

    def plan(query):
        if query not in plans:
            plans[query] = bytearray(1400)
        return plans[query]

    return plan


def main():
    service = Service(rate=80)
    journal, plan = Journal(), make_planner()

    def leak(number):
        journal.add(number)
        service.leaked(4000)

    for number in service.measured(5900):
        leak(-number)
    service.ready()
    for number in service.requests():
        service.churn(lambda: Event(0))
        if service.due(5900):
            leak(number)
            plan(f"select * from orders where id = {number}")


main()
