"""Holds objects in every way there is; answers lines on standard input with what it sees of itself."""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading

signals = []
signal.signal(signal.SIGCHLD, lambda number, frame: signals.append(number))


class Node:
    def __init__(self, number):
        self.number = number
        self.payload = bytearray(100)


class Slotted:
    __slots__ = ("payload", "number")

    def __init__(self, number):
        self.number = number
        self.payload = Node(number)


class InModule(Node):
    pass


class InClosure(Node):
    pass


class InThreadLocal(Node):
    pass


class InGenerator(Node):
    pass


class InTask(Node):
    pass


class InThread(Node):
    pass


class InNativeCode(Node):
    pass


class InGarbage(Node):
    pass


class InSlots(Node):
    pass


class InCycle(Node):
    pass


class Service:
    def __init__(self):
        self.sessions = {"by_user": [InModule(number) for number in range(500)]}
        self.slotted = Slotted(1)
        self.slotted.payload = [InSlots(number) for number in range(50)]


SERVICE = Service()
LEAK = {}
STATIC = {number: Node(number) for number in range(3000)}


def make_closure():
    name, lines = ["a", "list", "of", "names"], [InClosure(number) for number in range(50)]
    zone = {}
    return lambda: (name, lines, zone)


closure = make_closure()
local = threading.local()
local.mine = [InThreadLocal(number) for number in range(50)]


def generate():
    kept = [InGenerator(number) for number in range(50)]
    yield
    del kept


generator = generate()
next(generator)


def native():
    held = [InNativeCode(number) for number in range(50)]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


native()
gc.disable()
cycle = [InGarbage(number) for number in range(50)]
cycle.append(cycle)
del cycle


def threaded(ready):
    in_thread = [InThread(number) for number in range(50)]
    ready.set()
    threading.Event().wait()
    del in_thread


async def worker():
    waiting = [InTask(number) for number in range(50)]
    await asyncio.sleep(3600)
    del waiting


def look():
    # What is found here must be the same before and after a snapshot.
    return {
        "children": _children(),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "signals": len(signals),
        "gc": [gc.isenabled(), gc.get_freeze_count()],
        "interval": sys.getswitchinterval(),
        "modules": sorted(name for name in sys.modules if "perfkit" in name),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "waited": _wait(),
    }


def _children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read()


def _wait():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None


def answer(loop):
    for line in sys.stdin:
        if line.startswith("leak"):
            for _each in range(int(line.split()[1])):
                LEAK[len(LEAK)] = Node(len(LEAK))
        print(json.dumps(look()), flush=True)
    os._exit(0)


async def main():
    asyncio.create_task(worker())
    ready = threading.Event()
    threading.Thread(target=threaded, args=(ready,), daemon=True).start()
    ready.wait()
    threading.Thread(target=answer, args=(asyncio.get_running_loop(),), daemon=True).start()
    for number in range(300):
        LEAK[number] = Node(number)
    await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
