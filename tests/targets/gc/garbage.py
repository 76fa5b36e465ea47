"""A process that makes garbage, and collects it, when it is told to.

Each line on standard input is the name of a function and its arguments; the answer is one line
of JSON. Prints "ready PID"; ends when input ends.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from gc import collect

seen_by_another = []
shared = []


class Node:
    pass


def make(number):
    for _ in range(int(number)):
        node = Node()
        node.me = node


def make_in_one_call(number):
    return len(list(map(list, [()] * int(number))))


def tidy_up():
    gc.collect()


def tidy_middle():
    collect(1)


def make_and_tidy(number):
    for _ in range(int(number)):
        node = Node()
        node.me = node
    gc.collect()


def make_old(number):
    """Make the oldest generation due, held back only because it would have to look at too much."""
    shared.append([[index] for index in range(int(number))])
    gc.collect()
    for _ in range(200):
        make(5000)
    return gc.get_count()


def change(enabled, *thresholds):
    if thresholds:
        gc.set_threshold(*map(int, thresholds))
    gc.enable() if enabled == "on" else gc.disable()


def freeze():
    gc.freeze()


def unfreeze():
    gc.unfreeze()


def another_callback():
    def seen(phase, info):
        seen_by_another.append(phase)

    gc.callbacks.append(seen)
    gc.callbacks.insert(0, seen)


def clear_callbacks():
    gc.callbacks.clear()


def seen():
    return seen_by_another


def keep_making(seconds):
    until = time.monotonic() + float(seconds)

    def work():
        while time.monotonic() < until:
            make(500)
            time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def collect_half_of_the_time(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        gc.collect()
        took = time.monotonic() - began
        while time.monotonic() < began + 2 * took:
            pass


def interruptions(number):
    """Return how many of so many Ctrl-C arrive while about half of the time is spent in collections."""
    kept = [[index] for index in range(100_000)]
    arrived = 0
    for _ in range(int(number)):
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            # A function: on 3.12 and 3.13 the jump back of a loop is not covered by a `try` around it.
            collect_half_of_the_time(10)
        except KeyboardInterrupt:
            arrived += 1
        timer.join()
    return arrived


def fork():
    """Return how many callbacks a child has after it collected a few times."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        for _ in range(3):
            gc.collect()
        os.write(writing, str(len(gc.callbacks)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    answer = int(os.read(reading, 10))
    os.close(reading)
    os.close(writing)
    return answer


def counted():
    stats = gc.get_stats()
    return {"at": time.monotonic_ns(), "collections": [each["collections"] for each in stats]}


def blocks():
    return {"at": time.monotonic_ns(), "blocks": sys.getallocatedblocks()}


def hold(size_bytes):
    shared.append([bytes(500) for _ in range(int(size_bytes) // 533)])


def hold_small(size_bytes):
    shared.append([bytes(79) for _ in range(int(size_bytes) // 112)])  # and 33 of head


def keep_one_in(number):
    """Free all but every so manyth of what is held."""
    shared[-1] = shared[-1][:: int(number)]


def hold_natively(size_bytes):
    shared.append([bytearray(100_000) for _ in range(int(size_bytes) // 100_000)])


def load_ctypes():
    import ctypes

    return ctypes.CDLL(None).getpid() == os.getpid()


def look():
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "gc_callbacks": [str(each) for each in gc.callbacks],
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count()],
        "modules": sorted(sys.modules),
        "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
    }


if __name__ == "__main__":
    print(f"ready {os.getpid()}", flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        print(json.dumps(globals()[name](*arguments)), flush=True)
