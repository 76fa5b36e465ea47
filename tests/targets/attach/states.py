"""A process in one of the states a service can be in when somebody attaches to it.

Usage: states.py STATE [FOLDER]. Prints "ready" when it is in the state; answers each line on standard
input with what a stranger could have left behind in it, as JSON; ends when input ends.
"""

import gc
import json
import os
import signal
import sys
import threading
import time

progress = 0


def look():
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "gc_callbacks": len(gc.callbacks),
        "modules": sorted(name for name in sys.modules if "perfkit" in name or "memray" in name or name == "rich"),
        "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "path": sys.path[:],
        "profile": [str(sys.getprofile()), str(threading._profile_hook)],
        "thread_class": [*sorted(vars(threading.Thread)), threading.Thread.start.__code__.co_filename],
        "main": sorted(vars(sys.modules["__main__"])),
    }


def answer(end=None):
    for _line in sys.stdin:
        print(json.dumps(look()), flush=True)
    if end is not None:
        end()
    os._exit(0)


def count(until=None):
    global progress
    while True:
        progress += 1


def busy():
    count()


def spin():
    while True:
        pass


def sleep():
    time.sleep(600)


def lock():
    threading.Event().wait()


def read():
    import socket

    here, _there = socket.socketpair()
    begin()
    here.recv(1)


def asyncio_idle():
    import asyncio

    asyncio.run(forever())


async def forever():
    import asyncio

    begin()
    await asyncio.Event().wait()


def uvloop_idle():
    import asyncio

    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(forever())


def threads():
    for _ in range(3):
        threading.Thread(target=count, daemon=True).start()
    begin()
    count()


def load():
    kept = []
    while True:
        ring = []
        ring.append(ring)
        kept.append([ring, {"a": bytes(1000)}])
        if len(kept) > 5000:
            kept.clear()
            time.sleep(0.001)


def forked():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    begin()
    while True:
        time.sleep(0.05)


def gunicorn(folder):
    """The only worker of a master; `folder` holds gunicorn."""
    sys.path.append(folder)
    from gunicorn.app.base import BaseApplication

    class Site(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", "127.0.0.1:0")
            self.cfg.set("loglevel", "critical")
            self.cfg.set("post_worker_init", lambda _worker: begin(lambda: os.kill(os.getppid(), signal.SIGQUIT)))

        def load(self):
            return lambda _environment, respond: [respond("204 No Content", [])] and []

    Site().run()


def begin(end=None):
    threading.Thread(target=answer, args=(end,), daemon=True).start()
    json.dumps(look())
    print(f"ready {os.getpid()}", flush=True)


if __name__ == "__main__":
    state = globals()[sys.argv[1]]
    if state in (busy, spin, sleep, lock, load):
        begin()
    state(*sys.argv[2:])
