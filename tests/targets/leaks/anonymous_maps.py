r"""A renderer that maps a scratch area per job and never unmaps it; the map objects are in a list of its own.

Truth:
classes = ["python_leak", "native_leak"]
holder = '\.scratch\b'
type = 'mmap$'
"""

import mmap

from service import Service


class Renderer:
    def __init__(self):
        self.scratch = []

    def render(self, size_bytes, keep):
        area = mmap.mmap(-1, size_bytes)  # truth: allocates
        area.write(b"\1" * size_bytes)
        if keep:
            self.scratch.append(area)  # truth: inserts
        else:
            area.close()


def main():
    service = Service(rate=40, mib_per_min=16)
    renderer = Renderer()
    service.ready()
    for _ in service.requests():
        service.churn()
        keep = service.due(65_536)
        renderer.render(65_536, keep)
        if keep:
            service.leaked(65_536)


main()
