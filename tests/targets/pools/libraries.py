"""Pools of libraries that need no server: urllib3, httpcore and SQLAlchemy over SQLite, asked over standard input.

`use LIBRARY N` takes N connections one after another, `keep LIBRARY N` keeps N, `give LIBRARY` gives them back, `crowd
LIBRARY N` sends N requests at once over one connection, `look` says what of a probe is left.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import requests
import sqlalchemy as sa
import sqlalchemy.pool


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.03)
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"." * 100000)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
engine = sa.create_engine("sqlite:////tmp/perfkit-none.db", poolclass=sqlalchemy.pool.QueuePool, pool_size=20)
session = requests.Session()
client = httpx.Client()
asynchronous = httpx.AsyncClient()
kept = {}


def take_sqlalchemy():
    return engine.raw_connection()  # HERE: sqlalchemy


def take_urllib3():
    return session.get(url, stream=True)  # HERE: urllib3


def take_httpcore():
    return client.send(client.build_request("GET", url), stream=True)  # HERE: httpcore


async def take_async():
    return await asynchronous.send(asynchronous.build_request("GET", url), stream=True)  # HERE: async


async def crowd_async(number):
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1), timeout=30) as one:
        await one.get(url)
        await asyncio.gather(*(one.get(f"{url}slow") for _ in range(number)))


def crowd(library, number):
    if library == "async":
        return asyncio.run_coroutine_threadsafe(crowd_async(number), loop).result()
    with httpx.Client(limits=httpx.Limits(max_connections=1), timeout=30) as one:
        one.get(url)
        threads = [threading.Thread(target=one.get, args=(f"{url}slow",)) for _ in range(number)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()


def take(library):
    if library == "async":
        return asyncio.run_coroutine_threadsafe(take_async(), loop).result()
    return globals()["take_" + library]()


def give(library, thing):
    if library == "async":
        asyncio.run_coroutine_threadsafe(thing.aread(), loop).result()
    elif library == "httpcore":
        thing.read()
    elif library == "urllib3":
        thing.content
    else:
        thing.close()


def look():
    monitoring = getattr(sys, "monitoring", None)
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    gc.collect()
    functions = [each for each in gc.get_objects() if type(each).__name__ == "function"]
    ours = [each for each in functions if each.__code__.co_filename == "<perfkit probe>"]
    return {
        "tools": [each for each in tools if each],
        "ours": sorted(each.__qualname__ for each in ours),
        "replaced": sorted(each.__qualname__ for each in ours if hasattr(each, "__wrapped__")),
        "threads": sorted(each.name for each in threading.enumerate() if "process_request" not in each.name),
    }


for each in ("sqlalchemy", "urllib3", "httpcore", "async"):  # what starts at the first use is started
    give(each, take(each))
print("ready", os.getpid(), flush=True)
for words in map(str.split, sys.stdin):
    answer = None
    if words[0] == "use":
        for _ in range(int(words[2])):
            give(words[1], take(words[1]))
    elif words[0] == "keep":
        kept.setdefault(words[1], []).extend(take(words[1]) for _ in range(int(words[2])))
    elif words[0] == "crowd":
        crowd(words[1], int(words[2]))
    elif words[0] == "give":
        for each in kept.pop(words[1], []):
            give(words[1], each)
    else:
        answer = look()
    print(json.dumps(answer), flush=True)
os._exit(0)
