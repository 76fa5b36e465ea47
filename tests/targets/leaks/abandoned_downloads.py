r"""A server whose downloads are generators: those that a client abandons stay suspended in the table of open ones.

Truth:
classes = ["python_leak"]
holder = '\.open_downloads\b'
type = 'generator$'
"""

from service import Service


class Server:
    def __init__(self):
        self.open_downloads = {}

    def chunks(self, size_bytes):
        chunk = bytearray(size_bytes)  # truth: allocates
        yield chunk[:100]
        yield chunk[100:200]

    def download(self, number, is_abandoned):
        stream = self.chunks(8_000)
        self.open_downloads[number] = stream  # truth: inserts
        for _chunk in stream:
            if is_abandoned:
                return
        del self.open_downloads[number]


def main():
    service = Service(rate=80)
    server = Server()
    for number in service.measured(8_500, units=128):
        server.download(-number, is_abandoned=True)
        service.leaked(8_057)
    service.ready()
    for number in service.requests():
        service.churn()
        is_abandoned = service.due(8_500)
        server.download(number + 1, is_abandoned)
        if is_abandoned:
            service.leaked(8_057)


main()
