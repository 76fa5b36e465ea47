r"""A service that writes and reads a growing journal: the page cache grows, the process does not.

Truth:
kind = "negative"
classes = ["none", "page_cache"]
"""

import mmap
import tempfile

from service import Service


def main():
    service = Service(rate=60)
    with tempfile.TemporaryFile() as journal:
        block, size_bytes = bytes(32_768), 0
        service.ready()
        for number in service.requests():
            service.churn()
            journal.write(block)
            size_bytes = (size_bytes + len(block)) % (256 << 20)
            if size_bytes == 0:
                journal.seek(0)
            if number % 20 == 0 and size_bytes:
                journal.flush()
                with mmap.mmap(journal.fileno(), size_bytes, access=mmap.ACCESS_READ) as pages:
                    sum(pages[at] for at in range(0, size_bytes, 4096 * 16))


main()
