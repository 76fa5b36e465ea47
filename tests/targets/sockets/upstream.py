"""An HTTP/1.1 server on many ports: `upstream.py IDLE_S...`, one port per argument, closes connections idle for so long.

Prints `ready PID PORT...`. `/` answers after 20 ms, `/poll` after 8 s, `/large` with 4 MB. Ends with its input.
"""

import asyncio
import os
import sys


async def serve(reader, writer, idle_s):
    try:
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), idle_s)
            path = head.split()[1]
            await asyncio.sleep(8 if path == b"/poll" else 0.02)
            body = b"x" * (4_000_000 if path == b"/large" else 100)
            closing = b"connection: close" in head.lower()
            more = b"Connection: close\r\n" if closing else b""
            writer.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (more, len(body), body))
            await writer.drain()
            if closing:
                await asyncio.wait_for(reader.read(), 5)  # the client closes first
                return
    except (TimeoutError, asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    ports = []
    for idle_s in map(float, sys.argv[1:]):
        server = await asyncio.start_server(
            lambda reader, writer, idle_s=idle_s: serve(reader, writer, idle_s), "127.0.0.1", 0, backlog=512
        )
        ports.append(server.sockets[0].getsockname()[1])
    print("ready", os.getpid(), *ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


loop = asyncio.new_event_loop()
loop.run_until_complete(main())
os._exit(0)
