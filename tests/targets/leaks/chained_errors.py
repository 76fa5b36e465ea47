r"""A client that reconnects for ever raises each new error from the last one: the chain of causes never ends.

Truth:
classes = ["python_leak"]
holder = '\.last_error\b|__cause__|__context__'
type = 'ConnectionLost$'
"""

from service import Service


class ConnectionLost(RuntimeError):
    pass


class Client:
    def __init__(self):
        self.last_error = None

    def send(self, number):
        frame = bytes(6_000) + number.to_bytes(4, "big")  # truth: allocates
        raise ConnectionLost(f"message {number} of {len(frame)} bytes was not sent") from self.last_error

    def try_to_send(self, number):
        try:
            self.send(number)
        except ConnectionLost as error:
            self.last_error = error  # truth: inserts


def main():
    service = Service(rate=80)
    client = Client()
    for number in service.measured(7_000, units=128):
        client.try_to_send(number)
        service.leaked(6_037)
    service.ready()
    for number in service.requests():
        service.churn()
        if service.due(7_000):
            client.try_to_send(number)
            service.leaked(6_037)


main()
