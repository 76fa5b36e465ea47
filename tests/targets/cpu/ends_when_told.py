"""Burns CPU until a line comes, then ends at once."""

import os
import sys
import threading


def wait_for_a_line():
    sys.stdin.readline()
    os._exit(0)


threading.Thread(target=wait_for_a_line, daemon=True).start()
print("ready", flush=True)
while True:
    sum(range(1000))
