"""The only place where faults are planted: mistakes that services really make, switched on by name.

Each fault is what a reviewer could have let through: a few lines that do something useful and
forget one thing. They run where such code would run, on the path of a request (`ON_REQUEST`,
`ON_BODY`, `ON_ABORT`, which the proxy calls), so that stacks and retaining paths look like a
service's own. Nothing here runs while no fault is on. `FAULTS` is the ground truth for tests.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfkit.proxy.exchange import Exchange

ON_REQUEST: list[Callable[["Exchange"], None]] = []
"""Called with each request, once its head is accepted."""
ON_BODY: list[Callable[["Exchange", bytes], None]] = []
"""Called with each piece of a request body."""
ON_ABORT: list[Callable[["Exchange"], bool]] = []
"""Called when a client goes away during its request; true: somebody else returns the connection."""


@dataclass(frozen=True)
class Fault:
    """Ground truth about one planted fault.

    Args:
        name: the word that switches it on.
        doc: what goes wrong, for people.
        rule: the rule that has to find it.
        verdict_class: the class its finding must have.
        allocates_in: function that allocates what is left behind; empty when nothing is.
        held_by: the container that keeps it alive, as a path from its module; empty when nothing does.
        size_bytes: default size of what each request leaves behind.
        needs: what the load must do for the fault to show.
    """

    name: str
    doc: str
    rule: str
    verdict_class: str
    allocates_in: str
    held_by: str
    size_bytes: int
    needs: str = "requests"


_size_bytes: dict[str, int] = {}


# request_bodies ---------------------------------------------------------------------------------


class PendingUpload:
    """A request whose body is kept until it is safely delivered."""

    def __init__(self, trace_id: str, target: str) -> None:
        self.trace_id = trace_id
        self.target = target
        self.content = bytearray()


class UploadJournal:
    """Keeps request bodies so that they can be sent again if the upstream fails."""

    def __init__(self) -> None:
        self.pending: dict[str, PendingUpload] = {}

    def append(self, exchange: "Exchange", piece: bytes) -> None:
        """Note one piece of a body. Forgets to drop the upload once it was delivered."""
        request = exchange.request
        upload = self.pending.get(key := f"{request.trace_id.decode()}-{request.span_id.decode()}")
        if upload is None:
            upload = self.pending[key] = PendingUpload(key, request.target.decode("latin-1"))
        upload.content += piece[: _size_bytes["request_bodies"]]


JOURNAL = UploadJournal()


# sessions ---------------------------------------------------------------------------------------


class Session:
    """What the service knows about one visitor."""

    def __init__(self, session_id: str, host: str, first_path: str) -> None:
        self.session_id = session_id
        self.host = host
        self.first_path = first_path
        self.seen_at = time.monotonic()
        self.cookies: dict[str, str] = {}
        self.page_state = bytearray()


class SessionMap:
    """Sessions by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Session] = {}

    def remember(self, exchange: "Exchange") -> Session:
        """Return the visitor's session, made on the first request. Sessions never expire."""
        request = exchange.request
        session_id = f"{request.trace_id.decode()}{request.span_id.decode()}"
        session = self.by_id.get(session_id)
        if session is None:
            session = Session(session_id, request.host.decode("latin-1"), request.target.decode("latin-1"))
            session.cookies["session"] = session_id
            session.page_state = bytearray(_size_bytes["sessions"])
            self.by_id[session_id] = session
        return session


SESSIONS = SessionMap()


# decoder_cache ----------------------------------------------------------------------------------


class Decoder:
    """Decodes bodies of one kind in a buffer of its own."""

    def __init__(self, content_type: str, size_bytes: int) -> None:
        self.content_type = content_type
        self.buffer = bytearray(size_bytes)


class DecoderCache:
    """Decoders by what they decode, so that their buffers are allocated once."""

    def __init__(self) -> None:
        self.decoders: dict[tuple[str, int], Decoder] = {}

    def decoder_for(self, exchange: "Exchange") -> Decoder:
        """Return the decoder for a request. The key holds the request's own number, so none is ever found."""
        key = (exchange.request.host.decode("latin-1"), exchange.number)
        decoder = self.decoders.get(key)
        if decoder is None:
            decoder = self.decoders[key] = Decoder("application/json", _size_bytes["decoder_cache"])
        return decoder


DECODERS = DecoderCache()


# forgotten_tasks --------------------------------------------------------------------------------

BACKGROUND_TASKS: set["asyncio.Task[None]"] = set()


async def write_audit_record(record: bytes, accepted: "asyncio.Future[None]") -> None:
    """Deliver a record to the audit log, which never says that it accepted it."""
    await accepted
    del record


def audit(exchange: "Exchange") -> None:
    """Write an audit record in the background. There is no timeout."""
    loop = asyncio.get_running_loop()
    record = exchange.request.target.ljust(_size_bytes["forgotten_tasks"])
    task = loop.create_task(write_audit_record(record, loop.create_future()))
    BACKGROUND_TASKS.add(task)
    task.add_done_callback(BACKGROUND_TASKS.discard)


# checkout_leak ----------------------------------------------------------------------------------


def keep_for_retry(exchange: "Exchange") -> bool:
    """Keep the connection of an aborted request for its retry. Nobody retries, so it never comes back."""
    if exchange.connection is None:
        return False
    exchange.connection.link.pause_reading()
    return True


# cyclic_garbage ---------------------------------------------------------------------------------


class Span:
    """One timed step of a request."""

    def __init__(self, context: "RequestContext", name: str) -> None:
        self.context = context
        self.name = name
        self.baggage = bytearray(_size_bytes["cyclic_garbage"])


class RequestContext:
    """What belongs to one request; its spans refer back to it, so only the collector can free them."""

    def __init__(self, exchange: "Exchange") -> None:
        self.target = exchange.request.target
        self.spans: list[Span] = []

    def begin_span(self, name: str) -> None:
        """Begin a timed step."""
        self.spans.append(Span(self, name))


def trace_request(exchange: "Exchange") -> None:
    """Open the request's root span."""
    RequestContext(exchange).begin_span("request")


# manual_collect ---------------------------------------------------------------------------------


def release_memory(exchange: "Exchange") -> None:
    """Free memory after each request, as somebody once advised."""
    gc.collect()


# descriptors ------------------------------------------------------------------------------------

AUDIT_FILES: list[IO[bytes]] = []


def open_audit_file(exchange: "Exchange") -> None:
    """Open the audit file for a request; it is never closed."""
    AUDIT_FILES.append(open(os.devnull, "ab", buffering=0))  # noqa: SIM115, PTH123 - the mistake is the point


# threads ----------------------------------------------------------------------------------------


class Notifier(threading.Thread):
    """Tells subscribers about a request, then waits for a shutdown that never comes."""

    def __init__(self, target: bytes) -> None:
        super().__init__(daemon=True, name="notifier")
        self.target_path = target
        self.shutdown = threading.Event()

    def run(self) -> None:
        """Wait for more to tell."""
        self.shutdown.wait()


NOTIFIERS: list[Notifier] = []
_NOTIFIER_LIMIT = 500


def notify(exchange: "Exchange") -> None:
    """Start a notifier for a request."""
    if len(NOTIFIERS) < _NOTIFIER_LIMIT:  # A container of the lab must survive its own fault.
        notifier = Notifier(exchange.request.target)
        NOTIFIERS.append(notifier)
        notifier.start()


# warming_cache: no fault, but it grows --------------------------------------------------------


class PageCache:
    """Pages by request, at most `maxsize` of them, the oldest dropped first."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.pages: dict[int, bytes] = {}

    def put(self, exchange: "Exchange") -> None:
        """Keep a rendered page."""
        if len(self.pages) >= self.maxsize:
            del self.pages[next(iter(self.pages))]
        self.pages[exchange.number] = bytes(_size_bytes["warming_cache"])


PAGES = PageCache(maxsize=20_000)


# Switching --------------------------------------------------------------------------------------

_HERE = "perfkit.proxy.faults"
FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "request_bodies", "Request bodies are kept for a second delivery and never released.", "memory_growth",
            "python_leak", f"{_HERE}.UploadJournal.append", f"{_HERE}.JOURNAL.pending", 4096,
            needs="requests with a body",
        ),
        Fault(
            "sessions", "Every visitor gets a session, and sessions never expire.", "memory_growth", "python_leak",
            f"{_HERE}.SessionMap.remember", f"{_HERE}.SESSIONS.by_id", 2048,
        ),
        Fault(
            "decoder_cache", "A cache of decoders whose key never repeats keeps all their buffers.", "memory_growth",
            "python_leak", f"{_HERE}.Decoder.__init__", f"{_HERE}.DECODERS.decoders", 2048,
        ),
        Fault(
            "forgotten_tasks", "A background task per request waits for an answer that never comes.", "memory_growth",
            "python_leak", f"{_HERE}.audit", f"{_HERE}.BACKGROUND_TASKS", 1024,
        ),
        Fault(
            "checkout_leak", "A client that goes away leaves its upstream connection checked out for ever.",
            "checkout_leak", "checkout_leak", "", "perfkit.proxy.pool.Pool.connections", 0,
            needs="clients that abort while they wait",
        ),
        Fault(
            "cyclic_garbage", "Each request leaves a reference cycle that only the collector can free.", "gc_tuning",
            "fix_cycles", f"{_HERE}.Span.__init__", "", 1024,
        ),
        Fault(
            "manual_collect", "A full collection is asked for after each request.", "gc_tuning", "manual_collect",
            "", "", 0,
        ),
        Fault(
            "descriptors", "A file is opened for each request and never closed.", "memory_growth", "fd_leak",
            f"{_HERE}.open_audit_file", f"{_HERE}.AUDIT_FILES", 0,
        ),
        Fault(
            "threads", "A thread is started for each request and never ends.", "memory_growth", "thread_leak",
            f"{_HERE}.notify", f"{_HERE}.NOTIFIERS", 0,
        ),
        Fault(
            "warming_cache", "No fault: a bounded cache fills up and then stays.", "memory_growth", "filling",
            f"{_HERE}.PageCache.put", f"{_HERE}.PAGES.pages", 1024,
        ),
    )
}  # fmt: skip
"""Every fault by name, with what an analysis has to say about it."""

_HOOKS: dict[str, tuple[list[Any], Callable[..., object]]] = {
    "request_bodies": (ON_BODY, JOURNAL.append),
    "sessions": (ON_REQUEST, SESSIONS.remember),
    "decoder_cache": (ON_REQUEST, DECODERS.decoder_for),
    "forgotten_tasks": (ON_REQUEST, audit),
    "checkout_leak": (ON_ABORT, keep_for_retry),
    "cyclic_garbage": (ON_REQUEST, trace_request),
    "manual_collect": (ON_REQUEST, release_memory),
    "descriptors": (ON_REQUEST, open_audit_file),
    "threads": (ON_REQUEST, notify),
    "warming_cache": (ON_REQUEST, PAGES.put),
}
"""Where the proxy calls each fault, and what it calls."""


def plant(name: str, size_bytes: int | None = None) -> None:
    """Switch a fault on, or change the size of what it leaves behind.

    Raises:
        KeyError: there is no such fault.
    """
    fault = FAULTS[name]
    _size_bytes[name] = fault.size_bytes if size_bytes is None else size_bytes
    _set_hook(name, on=True)


def uproot(name: str) -> None:
    """Switch a fault off; what it has left behind stays.

    Raises:
        KeyError: there is no such fault.
    """
    _size_bytes.pop(FAULTS[name].name, None)
    _set_hook(name, on=False)


def planted() -> dict[str, int]:
    """Return `{name: size_bytes}` of the faults that are on."""
    return dict(_size_bytes)


def left_behind() -> dict[str, int]:
    """Return how many things each fault has left behind so far."""
    return {
        "request_bodies": len(JOURNAL.pending),
        "sessions": len(SESSIONS.by_id),
        "decoder_cache": len(DECODERS.decoders),
        "forgotten_tasks": len(BACKGROUND_TASKS),
        "descriptors": len(AUDIT_FILES),
        "threads": len(NOTIFIERS),
        "warming_cache": len(PAGES.pages),
    }


def _set_hook(name: str, *, on: bool) -> None:
    """Put the hook of a fault in its place or take it out."""
    hooks, hook = _HOOKS[name]
    if hook in hooks:
        hooks.remove(hook)
    if on:
        hooks.append(hook)
