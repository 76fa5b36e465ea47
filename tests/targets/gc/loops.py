"""A process with an event loop and tasks that wait in known places.

Usage: loops.py asyncio|uvloop|bare [TASKS]; bare is a loop without any task. Prints "ready PID";
each line on standard input is the name of a function and its arguments, run in a thread beside
the loop; the answer is one line of JSON. Ends when input ends.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time

loop = None
never = None
kept = []


async def innermost():
    await never.wait()


async def middle():
    await innermost()


async def waiter():
    await middle()


async def numbers():
    yield 1
    await innermost()
    yield 2


async def reader():
    async for _ in numbers():
        pass


async def sleeper():
    while True:
        await asyncio.sleep(0.01)


async def finished():
    return 1


async def start(tasks):
    global never
    never = asyncio.Event()
    kept.extend(asyncio.create_task(waiter()) for _ in range(tasks))
    kept.append(asyncio.create_task(reader()))
    kept.append(asyncio.create_task(sleeper()))
    kept.extend([asyncio.create_task(finished()) for _ in range(3)])
    await asyncio.sleep(0.05)
    ready()
    await never.wait()


def ready():
    threading.Thread(target=answer, daemon=True).start()
    print(f"ready {os.getpid()}", flush=True)


def block(seconds):
    loop.call_soon_threadsafe(time.sleep, float(seconds))
    # By then it is blocked, and has been asked.
    time.sleep(0.1)


def more(tasks):
    def create():
        kept.extend(loop.create_task(waiter()) for _ in range(int(tasks)))

    loop.call_soon_threadsafe(create)


def look():
    done = threading.Event()
    found = {}

    def here():
        waiting = [*getattr(loop, "_ready", ()), *getattr(loop, "_scheduled", ())]
        found["of_the_probe"] = [str(each) for each in waiting if "perfkit" in str(each)]
        found["gc_callbacks"] = len(gc.callbacks)
        done.set()

    loop.call_soon_threadsafe(here)
    done.wait()
    found["threads"] = len(os.listdir("/proc/self/task"))
    found["descriptors"] = sorted(os.listdir("/proc/self/fd"))
    found["modules"] = sorted(sys.modules)
    return found


def answer():
    for line in sys.stdin:
        name, *arguments = line.split()
        print(json.dumps(globals()[name](*arguments)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    kind, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    if kind == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    if kind == "bare":
        loop.call_soon(ready)
        loop.run_forever()
    loop.run_until_complete(start(number))
