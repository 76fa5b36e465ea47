"""A reverse proxy the way it is usually written with aiohttp, on uvloop: `aiohttp_proxy.py UPSTREAM_PORT PORT`."""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}


async def serve(upstream_port: int, port: int) -> None:
    """Serve until killed."""
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            fields = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
            url = f"http://127.0.0.1:{upstream_port}{request.rel_url}"
            body = request.content if request.can_read_body else None
            async with session.request(request.method, url, headers=fields, data=body, allow_redirects=False) as answer:
                response = web.StreamResponse(status=answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        response.headers[name] = value
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
