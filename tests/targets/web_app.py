"""An aiohttp service that keeps the last search of each visitor for ever: perfkit knows nothing of it."""

import asyncio
import json
import sys

from aiohttp import web

VISITORS = {}


class LastSearch:
    def __init__(self, query, results):
        self.query = query
        self.results = results


def search(query):
    return [f"{query} result {number} " + "x" * 60 for number in range(10)]


def remember(visitor, query):
    VISITORS[visitor] = LastSearch(query, search(query))
    return VISITORS[visitor]


async def handle(request):
    last = remember(request.query["visitor"], request.query["q"])
    return web.json_response({"results": len(last.results)})


async def main():
    app = web.Application()
    app.router.add_get("/search", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"port": site._server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
