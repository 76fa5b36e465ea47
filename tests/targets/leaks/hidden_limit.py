r"""A cache with a limit that is written in its code only, half full at the end of the recording.

No attribute says how much it will hold; that it is a cache shows in its evictions alone, which have not begun.

Truth:
kind = "negative"
classes = ["filling", "undetermined"]
"""

from service import Service


class Previews:
    def __init__(self):
        self.by_picture = {}

    def get(self, service, picture):
        preview = self.by_picture.get(picture)
        if preview is None:
            preview = self.by_picture[picture] = bytes(int(service.bytes_per_request))
            while len(self.by_picture) > 9000:
                del self.by_picture[next(iter(self.by_picture))]
        return preview


def main():
    service = Service(rate=70)
    previews = Previews()
    service.ready()
    for number in service.requests():
        service.churn()
        previews.get(service, number)
        previews.get(service, max(number - service.random.randrange(2000), 0))


main()
