"""The corpus of connection pools: programs over real libraries and real servers, and what must be said about each."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.pool_servers import postgresql, redis
from tests.proxy_processes import upstream

PROGRAMS = Path(__file__).parent / "targets" / "pools"
POSTGRESQL, REDIS, HTTP = "postgresql", "redis", "http"


@dataclass(frozen=True)
class Case:
    """One program in one state. `rule` None: it is healthy, and no rule may fail."""

    program: str
    name: str
    server: str
    rule: str | None = None
    allowed: tuple[str, ...] = ()
    """Rules that may fail too, because the defect has these consequences."""

    def __str__(self) -> str:
        return f"{self.program.removesuffix('_cases.py')}:{self.name}"

    @property
    def line(self) -> int | None:
        """Line of the program that has to be named: the one marked with the name of the case."""
        for number, text in enumerate((PROGRAMS / self.program).read_text().splitlines(), 1):
            if text.endswith((f"# HERE: {self.name}", f"# HERE: {ALIASES.get(self.name)}")):
                return number
        return None


ALIASES = {"leak_in_a_worker": "leak_on_error"}
CASES = (
    Case("sqlalchemy_cases.py", "kept_session", POSTGRESQL, "checkout_leak"),
    Case("sqlalchemy_cases.py", "async_leak", POSTGRESQL, "checkout_leak"),
    Case("sqlalchemy_cases.py", "collected", POSTGRESQL, "gc_dependent_close"),
    Case("sqlalchemy_cases.py", "stale", POSTGRESQL, "stale_reuse"),
    Case("sqlalchemy_cases.py", "seldom", POSTGRESQL, "stale_reuse"),
    Case("sqlalchemy_cases.py", "no_pool", POSTGRESQL),
    Case("sqlalchemy_cases.py", "scoped", POSTGRESQL),
    Case("sqlalchemy_cases.py", "pre_ping", POSTGRESQL),
    Case("sqlalchemy_cases.py", "async_healthy", POSTGRESQL),
    Case("asyncpg_cases.py", "leak_on_error", POSTGRESQL, "checkout_leak"),
    Case("asyncpg_cases.py", "leak_in_a_worker", POSTGRESQL, "checkout_leak"),
    Case("asyncpg_cases.py", "nested", POSTGRESQL, "self_deadlock", allowed=("hold_inefficiency", "pool_exhaustion")),
    Case("asyncpg_cases.py", "unbounded", POSTGRESQL, "unbounded_wait", allowed=("pool_exhaustion",)),
    Case("asyncpg_cases.py", "busy", POSTGRESQL),
    Case("asyncpg_cases.py", "subscribers", POSTGRESQL),
    Case("asyncpg_cases.py", "slow_queries", POSTGRESQL),
    Case("asyncpg_cases.py", "handed_over", POSTGRESQL),
    Case("psycopg_cases.py", "leak", POSTGRESQL, "checkout_leak"),
    Case("psycopg_cases.py", "threads_that_end", POSTGRESQL, "checkout_leak"),
    Case("psycopg_cases.py", "exhausted", POSTGRESQL, "pool_exhaustion"),
    Case("psycopg_cases.py", "lifetime", POSTGRESQL, "lifetime_not_enforced"),
    Case("psycopg_cases.py", "stale", POSTGRESQL, "stale_reuse"),
    Case("psycopg_cases.py", "checked", POSTGRESQL),
    Case("psycopg_cases.py", "waits_for_others", POSTGRESQL, "hold_inefficiency"),
    Case("psycopg_cases.py", "busy", POSTGRESQL),
    Case("psycopg_cases.py", "one_long_report", POSTGRESQL),
    Case("psycopg_cases.py", "generator", POSTGRESQL),
    Case("redis_cases.py", "leak", REDIS, "checkout_leak"),
    Case("redis_cases.py", "async_leak", REDIS, "checkout_leak"),
    Case("redis_cases.py", "healthy", REDIS),
    Case("redis_cases.py", "async_subscribers", REDIS),
    Case("httpx_cases.py", "ghosts", HTTP, "ghost_slot", allowed=("pool_exhaustion",)),
    Case("httpx_cases.py", "unread_stream", HTTP, "checkout_leak"),
    Case("httpx_cases.py", "few_connections", HTTP),
    Case("httpx_cases.py", "healthy", HTTP),
    Case("httpx_cases.py", "event_streams", HTTP),
    Case("httpx_cases.py", "long_polls", HTTP),
    Case("requests_cases.py", "unread", HTTP, "checkout_leak"),
    Case("requests_cases.py", "client_per_request", HTTP, "connection_churn"),
    Case("requests_cases.py", "few_kept", HTTP, "connection_churn"),
    Case("requests_cases.py", "healthy", HTTP),
    Case("requests_cases.py", "downloads", HTTP),
    Case("aiohttp_cases.py", "unread", HTTP, "checkout_leak"),
    Case("aiohttp_cases.py", "forgotten", HTTP, "checkout_leak", allowed=("pool_exhaustion",)),
    Case("aiohttp_cases.py", "healthy", HTTP),
)


@contextmanager
def servers(wanted: set[str]) -> Iterator[dict[str, str]]:
    """Yield the addresses of the servers that are wanted."""
    with ExitStack() as stack:
        found = {}
        if POSTGRESQL in wanted:
            found[POSTGRESQL] = stack.enter_context(postgresql())
        if REDIS in wanted:
            found[REDIS] = stack.enter_context(redis())
        if HTTP in wanted:
            port = stack.enter_context(upstream()).port
            found[HTTP] = f"http://127.0.0.1:{port}"
        yield found


@contextmanager
def running(case: Case, address: str, python: Path = Path(sys.executable)) -> Iterator[int]:
    """Yield the process id of a program that is ready; it has to be alive at the end."""
    process = subprocess.Popen(
        [str(python), str(PROGRAMS / case.program), case.name, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], f"{case} did not start"
        yield process.pid
        assert process.poll() is None, f"{case} ended with {process.returncode}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
