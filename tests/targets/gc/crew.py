"""A process that starts threads and opens descriptors when it is told to.

Each line on standard input is the name of a function and its arguments; the answer is one line
of JSON. Prints "ready PID"; ends when input ends.
"""

import _thread
import concurrent.futures
import functools
import json
import os
import select
import socket
import sys
import tempfile
import threading

kept = []
enough = threading.Event()


def poll_inventory(_shop):
    enough.wait()


class Courier(threading.Thread):
    def run(self):
        enough.wait()


def start_pollers(number):
    for index in range(int(number)):
        thread = threading.Thread(target=functools.partial(poll_inventory, index), daemon=True)
        thread.start()
        kept.append(thread)


def start_couriers(number):
    for _ in range(int(number)):
        thread = Courier(name=f"courier {os.urandom(4).hex()}0")
        thread.daemon = True
        thread.start()
        kept.append(thread)


def start_pool(number):
    pool = concurrent.futures.ThreadPoolExecutor(int(number))
    kept.append([pool, *(pool.submit(enough.wait) for _ in range(int(number)))])


def start_without_threading(number):
    for _ in range(int(number)):
        _thread.start_new_thread(poll_inventory, (0,))


def start_native(number):
    import ctypes

    libc = ctypes.CDLL(None)
    for _ in range(int(number)):
        thread = ctypes.c_ulong()
        libc.pthread_create(ctypes.byref(thread), None, libc.pause, None)
        libc.pthread_setname_np(thread, b"encoder-7")


def end_threads():
    enough.set()
    for thread in kept:
        if isinstance(thread, threading.Thread):
            thread.join()
    kept.clear()
    enough.clear()


def start_in_child():
    """Return where a child's `Thread.start` is from after it started one."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        is_ours = threading.Thread.start.__code__.co_filename == threading.__file__
        os.write(writing, b"start" if is_ours else b"replaced")
        os._exit(0)
    os.waitpid(child, 0)
    answer = os.read(reading, 10).decode()
    os.close(reading)
    os.close(writing)
    return answer


def wrap_start():
    """Do what other libraries do that watch threads."""
    below = threading.Thread.start

    def start(self):
        return below(self)

    threading.Thread.start = start


class Wrapper:
    def __init__(self, below):
        self.below = below

    def __get__(self, thread, kind):
        return functools.partial(self.below, thread) if thread is not None else functools.partial(self.below)


def wrap_start_with_a_descriptor():
    threading.Thread.start = Wrapper(threading.Thread.start)


def start_as_held():
    held = vars(threading.Thread)["start"]
    return [type(held).__name__, id(held)]


def open_files(folder, number):
    for index in range(int(number)):
        kept.append(open(os.path.join(folder, f"part-{index:04}.bin"), "w"))  # noqa: SIM115
    gone = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115
    os.unlink(gone.name)
    kept.append(gone)


def open_connections(number):
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    kept.append(server)
    for _ in range(int(number)):
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _address = server.accept()
        kept.append((client, accepted))
    return port


def close_accepted():
    for each in kept:
        if isinstance(each, tuple) and len(each) == 2:
            each[1].close()


def open_others():
    kept.append((*os.pipe(), socket.socketpair(), select.epoll(), socket.socket(), os.memfd_create("cache-3")))


def look():
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "modules": sorted(sys.modules),
        "start": [threading.Thread.start.__qualname__, threading.Thread.start.__code__.co_filename],
    }


if __name__ == "__main__":
    print(f"ready {os.getpid()}", flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        print(json.dumps(globals()[name](*arguments)), flush=True)
