"""Clients in one state each: `clients.py CASE PORT`. Prints `ready PID` when it goes on; ends with its input."""

import asyncio
import http.client
import os
import random
import socket
import sys
import threading
import time

CASE, PORT = sys.argv[1], int(sys.argv[2])
URL = f"http://127.0.0.1:{PORT}/"


def run(worker, count):
    """Run a worker in so many threads, for ever."""

    def forever(number):
        while True:
            worker(number)

    for number in range(count):
        threading.Thread(target=forever, args=(number,), daemon=True).start()


def at_once(call, count):
    """Make so many calls at the same time, once."""
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def urllib3_burst():
    """A burst of 20, then one thread: the pool does not notice that the server closes the other 19."""
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", PORT, maxsize=20)
    at_once(lambda: pool.request("GET", "/"), 20)
    run(lambda _: (pool.request("GET", "/"), time.sleep(0.3)), 1)


def requests_without_session():
    """Each call makes a session, and with it a pool, of its own."""
    import requests

    run(lambda _: (requests.get(URL), time.sleep(0.05)), 2)


def urllib3_busy():
    """Threads that share a pool of the right size."""
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", PORT, maxsize=10)
    run(lambda _: (pool.request("GET", "/"), time.sleep(0.1)), 8)


def waves(call, count):
    """Make so many calls at a time, a wave every third of a second or more, for ever."""
    meet = threading.Barrier(count)

    def worker(_):
        meet.wait()
        try:
            call()
        except Exception as error:  # httpcore 1.0.9 closes connections under requests, too
            print(error, file=sys.stderr)
        time.sleep(0.3)

    run(worker, count)


def requests_small_pool():
    """Twenty at a time on a pool of five: what does not fit is thrown away."""
    import requests

    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=5))
    waves(lambda: session.get(URL).content, 20)


def httpx_client(count):
    import httpx

    client = httpx.Client(timeout=30)
    waves(lambda: client.get(URL), count)


def httpx_thirty():
    """Thirty at a time and the default of twenty connections to keep: httpcore 1.0.9 counts the busy ones too."""
    httpx_client(30)


def httpx_ten():
    """Ten at a time, which is fewer than connections are kept."""
    httpx_client(10)


def aiohttp_client(burst, workers, **options):
    import aiohttp

    async def main():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(**options)) as session:

            async def get():
                async with session.get(URL) as answer:
                    await answer.read()

            async def worker():
                while True:
                    await get()
                    await asyncio.sleep(0.2)

            await asyncio.gather(*(get() for _ in range(burst)))
            await asyncio.gather(*(worker() for _ in range(workers)))

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()


def aiohttp_burst():
    """The same burst as urllib3's, but the loop sees that the server closes."""
    aiohttp_client(20, 1)


def aiohttp_forced():
    """A connection per request because it was configured so."""
    aiohttp_client(0, 5, force_close=True)


def one(connection, path="/"):
    """Send a request on a connection of http.client and read its answer."""
    connection.request("GET", path)
    return connection.getresponse().read()


def connected():
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.connect()
    return connection


def lifetimes(lifetime_s):
    """Ten busy connections, each closed and opened anew at an age."""

    def worker(_):
        connection, until = connected(), time.monotonic() + lifetime_s()
        while time.monotonic() < until:
            one(connection)
            time.sleep(0.05)
        connection.close()

    run(worker, 10)


def lifetime_in_step():
    lifetimes(lambda: 7.0)


def lifetime_with_jitter():
    lifetimes(lambda: 7.0 * (1 - 0.3 * random.random()))


def warm_up():
    """A pool that opens all its connections at the start and then uses them."""
    connections = [connected() for _ in range(40)]

    def worker(number):
        one(connections[number])
        time.sleep(0.5)

    run(worker, 40)


def unread_answer():
    """A request that was given up, and its connection kept; others go on."""
    given_up = connected()
    for _ in range(5):
        one(given_up)
    given_up.request("GET", "/")
    kept.append(given_up)
    connection = connected()
    run(lambda _: (one(connection), time.sleep(0.2)), 1)


def slow_download():
    """A large body read slowly, beside other requests."""
    slow, other = connected(), connected()

    def download(_):
        slow.request("GET", "/large")
        answer = slow.getresponse()
        while answer.read(65536):
            time.sleep(0.5)

    run(download, 1)
    run(lambda _: (one(other), time.sleep(0.2)), 1)


def long_polls():
    """Connections that wait for an answer most of the time."""
    connections = [connected() for _ in range(10)]
    run(lambda number: one(connections[number], "/poll"), 10)


def fork_shared():
    """A connection opened before the fork and used on both sides (one after the other, or it would break at once)."""
    connection = connected()
    one(connection)
    reader, writer = os.pipe()
    back_reader, back_writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)  # or the child would never see the parent go
        while os.read(reader, 1):
            one(connection)
            os.write(back_writer, b"x")
        os._exit(0)

    def both(_):
        one(connection)
        os.write(writer, b"x")
        os.read(back_reader, 1)
        time.sleep(0.2)

    run(both, 1)


def fork_and_close():
    """A child that closes what it inherited, as it should."""
    connection = connected()
    one(connection)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        connection.close()
        os.read(reader, 1)
        os._exit(0)
    run(lambda _: (one(connection), time.sleep(0.2)), 1)


def fork_and_keep():
    """A child that inherits a connection and never touches it, while its parent goes on."""
    connection = connected()
    one(connection)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    run(lambda _: (one(connection), time.sleep(0.05)), 1)


def server_closes_first():
    """A server whose clients come and go: it closes each connection first and gets all the TIME_WAIT."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept(_):
        accepted, _address = server.accept()
        accepted.recv(100)
        accepted.sendall(b"bye")
        accepted.close()

    run(accept, 1)
    # Its clients are another process, so that only the server is judged.
    code = (
        "import socket, time\nwhile True:\n"
        f"    c = socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))\n"
        "    c.sendall(b'hello'); c.recv(9); c.recv(9); c.close(); time.sleep(0.03)\n"
    )
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    kept.append(child)


def idle_closed_by_server():
    """A few idle connections whose peers closed them, fewer than matter."""
    for _ in range(2):
        connection = connected()
        one(connection)
        kept.append(connection)


kept = []
globals()[CASE]()
print("ready", os.getpid(), flush=True)
sys.stdin.read()
for each in kept:
    if hasattr(each, "terminate"):
        each.terminate()
        each.wait()
os._exit(0)
