"""Burns CPU: 70 % of the time in `heavy`, 30 % in `light`."""

import time


def burn(until):
    while time.perf_counter() < until:
        pass


def heavy():
    burn(time.perf_counter() + 0.14)


def light():
    burn(time.perf_counter() + 0.06)


print("ready", flush=True)
while True:
    heavy()
    light()
