"""The reference reverse proxy: a real Python service to profile, and its upstream.

A streaming HTTP/1.1 proxy on uvloop with strict request framing, a connection pool with the
life-cycle of HikariCP, tracing, graceful drain and reload, and faults that can be planted by
name (`faults.py`). It knows nothing of perfkit's analysis side: it is measured from outside,
by process id, like any other service. Start it with `perfkit proxy --upstream HOST:PORT`.
"""
