r"""A picture service that keeps the first bytes of each upload for a preview: a view, which keeps the whole upload.

One large object now and then; the views themselves are tiny.

Truth:
classes = ["python_leak"]
holder = '\bPREVIEWS\b'
type = 'memoryview$'
"""

from service import Service

PREVIEWS = []


def upload(service, size_bytes, keep):
    picture = bytearray(size_bytes)  # truth: allocates
    picture[:4] = b"\x89PNG"
    if keep:
        PREVIEWS.append(memoryview(picture)[:10])  # truth: inserts allocates
        service.leaked(size_bytes)


def main():
    service = Service(rate=30, mib_per_min=30)
    for _ in service.measured(600_000, units=20):
        upload(service, service.random.randrange(300_000, 600_000), keep=True)
    service.ready()
    for _ in service.requests():
        service.churn()
        size_bytes = service.random.randrange(300_000, 600_000)
        upload(service, size_bytes, keep=service.due(size_bytes))


main()
