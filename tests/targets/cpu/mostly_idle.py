"""Works a tenth of the time and sleeps the rest, in the way that hides best: `time.sleep` leaves no frame."""

import sys
import threading
import time


def work(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def rest(seconds):
    time.sleep(seconds)


def side():
    event = threading.Event()
    while True:
        event.wait(0.18)
        work(0.02)


if "two" in sys.argv:
    threading.Thread(target=side, name='side "quoted"; {x}', daemon=True).start()
print("ready", flush=True)
while True:
    work(0.02)
    rest(0.18)
