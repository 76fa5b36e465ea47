"""Finds the connection pools of the target and notes who takes which connection, for how long, and what becomes of it.

The frame: how functions are watched is in `pool_parts/hooks.py`, the book that is kept in
`pool_parts/book.py`, what each library calls its things in `pool_adapters`; all of it is sent
as source in the options. A library that the target has not imported is not looked for.
"""

from __future__ import annotations

import gc
import os
import struct
import sys
import time
from _socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_INFO
from _socket import socket as Socket  # noqa: N812 - a class
from binascii import b2a_base64
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, TypeVar

    T = TypeVar("T")

_SMALL_HEAP_BLOCKS = 1_500_000
_MAX_DRAINED = 5000
_MAX_HOLDERS = 64
_LONG_WAIT_NS = 100_000_000
_MAX_CHAIN = 64
_TCP_INFO = struct.Struct("8B24I")
_UNACKNOWLEDGED, _LAST_DATA_SENT, _LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED = 12, 17, 19, 20
"""Places of tcpi_last_data_sent and tcpi_last_data_recv, in milliseconds, in the struct above.

Source: include/uapi/linux/tcp.h, struct tcp_info
"""
_FIONREAD = 0x541B
"""Source: include/uapi/asm-generic/ioctls.h"""
_TO_SOCKET = (
    "sock", "_sock", "socket", "transport", "_transport", "_writer", "_stream", "stream", "_network_stream",
    "_connection", "_con", "pgconn", "_conn", "link", "dbapi_connection", "connection", "driver_connection",
)  # fmt: skip
"""Attributes by which libraries lead from a connection to its socket."""


class Recorder:
    """Watches the pools of every library it has an adapter for."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._cpu_ns = 0
        self._readings = 0
        self._longest_ns = 0
        self._searched = False
        self._waiting_adapters: dict[str, dict[str, Any]] = {}
        self._adapters: list[Any] = []
        self._broken: dict[str, str] = {}

    def start(
        self, sources: dict[str, str], adapters: dict[str, str], every_s: float = 0.5, max_share: float = 0.02
    ) -> dict[str, Any]:
        """Start; return which libraries are watched now, and what one acquisition costs."""
        began_ns = time.thread_time_ns()
        hooks, book = _run("hooks", sources["hooks"]), _run("book", sources["book"])
        self._hook, self._events = hooks["Hook"], book["EVENTS"]
        self._book = book["Book"](self._hook)
        self._hooking = hooks["hooking"](self._book.account)
        self._book.depth = self._hooking.depth
        for name, source in adapters.items():
            try:
                self._waiting_adapters[name] = _run(name, source)
            except Exception as error:  # noqa: BLE001 - one adapter must not cost the others
                self._broken[name] = f"{type(error).__name__}: {error}"
        self._look_for_libraries()
        self._probe.spawn(self._run(every_s, max_share))
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {
            "monotonic_ns": monotonic_ns(),
            "every_s": every_s,
            "by": type(self._hooking).__name__,
            "libraries": [each.name for each in self._adapters],
        }

    def stop(self) -> dict[str, Any]:
        """Let go of the target; return what it cost and what went wrong."""
        began_ns = time.thread_time_ns()
        self._hooking.remove()
        book = self._book
        book.long_waits(_LONG_WAIT_NS)
        for _steps in self._read():
            pass
        while book.events:
            self._drain()
        self._cpu_ns += time.thread_time_ns() - began_ns
        calls, per_call_ns = book.sent + book.lost, self._cost_of_one()
        book.pools.clear()
        book.slots.clear()
        book.checkouts.clear()
        book.wishes.clear()
        return {
            "monotonic_ns": monotonic_ns(),
            "libraries": [each.name for each in self._adapters],
            "readings": self._readings,
            "longest_ns": self._longest_ns,
            "calls": calls,
            "per_call_ns": per_call_ns,
            "cost_ns": self._cpu_ns + calls * per_call_ns,
            "lost": book.lost,
            "errors": book.errors,
            "first_error": book.first_error,
            "broken": self._broken,
            "too_many_unwinds": self._hooking.too_many_unwinds,
        }

    def found(self) -> list[tuple[Any, str]]:
        """Return the pools that are known and their names, for other recorders: two of one name have a number."""
        if not self._searched:
            self._search()
        entries = sorted(self._book.pools.values(), key=lambda entry: entry.number)
        titles = [f"{entry.adapter.name} {self._title(entry)}".strip() for entry in entries]
        names = [
            title if titles.count(title) == 1 else f"{title} #{titles[: place + 1].count(title)}"
            for place, title in enumerate(titles)
        ]
        return list(zip(entries, names))  # noqa: B905 - made of each other

    def in_vain(self, number: int) -> int:
        """Return how often a connection of a pool was wished for in vain: timeouts and errors, not those who left."""
        counts = self._book.in_vain
        return sum(counts.get((number, event), 0) for event in ("timeout", "failed"))

    def _run(self, every_s: float, max_share: float) -> Iterator[float]:
        """Read the pools every so often, further apart when it would cost more than its share; send all there is."""
        while True:
            began, before_ns = time.monotonic(), self._cpu_ns
            began_ns = time.thread_time_ns()
            self._hooking.check(every_s)
            self._look_for_libraries()
            if not self._searched:
                self._search()
            self._cpu_ns += time.thread_time_ns() - began_ns
            for _step in self._read():
                yield 0.001
            self._drain()
            took = time.monotonic() - began
            pause = max(every_s - took, (self._cpu_ns - before_ns) / 1e9 / max_share - took, 0.05)
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                yield min(left, 0.1)
                if len(self._book.events) >= _MAX_DRAINED:
                    self._drain()

    def _look_for_libraries(self) -> None:
        """Watch the functions of libraries that were imported since."""
        for name, namespace in list(self._waiting_adapters.items()):
            module = sys.modules.get(namespace["MODULE"])
            if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
                continue
            del self._waiting_adapters[name]
            try:
                adapter = namespace["Adapter"](self._book, module)
                for hook in adapter.hooks:
                    self._hooking.add(hook)
            except Exception as error:  # noqa: BLE001 - a version of the library that we do not know
                self._broken[name] = f"{type(error).__name__}: {error}"
                continue
            self._adapters.append(adapter)
            self._searched = False

    def _search(self) -> None:
        """Find the pools that nobody has used since, where the heap is small enough to look at all of it."""
        self._searched = True
        kinds = tuple(kind for adapter in self._adapters for kind in adapter.classes)
        if not kinds or sys.getallocatedblocks() > _SMALL_HEAP_BLOCKS:
            return
        wanted = set(kinds)
        for kind in kinds:
            wanted.update(_subclasses(kind))
        for each in [each for each in gc.get_objects() if type(each) in wanted]:
            for adapter in self._adapters:
                if isinstance(each, adapter.classes):
                    self._book.pool(each, adapter)
                    break

    def _read(self) -> Iterator[None]:
        """Read every pool, and look at who holds connections for long; yields between two of them."""
        at_ns, began_ns = monotonic_ns(), time.thread_time_ns()
        book = self._book
        book.long_waits(_LONG_WAIT_NS)
        states: list[list[Any]] = []
        settings: list[list[Any]] = []
        for number, entry in list(book.pools.items()):
            pool = entry.ref()
            if pool is None:
                book.pools.pop(number, None)
                continue
            try:
                states.append(self._state(entry, pool, settings))
            except Exception as error:  # noqa: BLE001 - another thread changed it just now, or a version we do not know
                book.account(error)
            del pool
            took_ns = time.thread_time_ns() - began_ns
            if took_ns > 1_500_000:
                self._account(took_ns)
                yield
                began_ns = time.thread_time_ns()
        holders = self._holders()
        row: dict[str, Any] = {"at": at_ns, "states": states}
        if settings:
            row["settings"] = settings
        if holders:
            row["holders"] = holders
        self._emit(row)
        self._readings += 1
        self._account(time.thread_time_ns() - began_ns)

    def _account(self, took_ns: int) -> None:
        """Add up what was used."""
        self._cpu_ns += took_ns
        self._longest_ns = max(self._longest_ns, took_ns)

    def _state(self, entry: Any, pool: Any, settings: list[list[Any]]) -> list[Any]:
        """Return the gauges of a pool; settings that changed are noted beside."""
        book, adapter = self._book, entry.adapter
        slots = adapter.slots(pool)
        for slot, in_use in slots:
            book.found(slot, entry, in_use=in_use)
        if slots:
            book.keep_only(entry, [slot for slot, _in_use in slots])
        state = adapter.state(pool)
        if state.get("waiting") is None:
            state["waiting"] = book.waiting(entry)
        current = {"library": adapter.name, "number": entry.number, **adapter.settings(pool)}
        for name, value in current.items():
            if entry.told.get(name, entry) != value:
                entry.told[name] = value
                settings.append([monotonic_ns(), entry.number, name, value])
        sockets = [_asked(_descriptor(slot), _address) for slot, _in_use in slots[:256]]
        with_socket = sum(each is not None for each in sockets)
        known = [book.slots.get(id(slot)) for slot, _in_use in slots[:256]]
        for place, address in zip(known, sockets):  # noqa: B905 - made of each other
            if place is not None and address is not None and not getattr(place, "address", None):
                place.address = address
        return [
            entry.number,
            *(state.get(name) for name in ("max", "open", "in_use", "idle", "waiting", "ghosts")),
            with_socket if slots and len(slots) <= 256 else None,
        ]

    def _holders(self) -> list[list[Any]]:
        """Return what those do now who have a connection."""
        book, now_ns = self._book, monotonic_ns()
        old = list(book.checkouts.values())
        if not old:
            return []
        if len(old) > _MAX_HOLDERS:
            old.sort(key=lambda each: each.held_since)
            old = old[: _MAX_HOLDERS // 2] + old[-_MAX_HOLDERS // 2 :]
        threads = sys._current_frames()
        rows = []
        for checkout in old:
            suspended: dict[int, Any] = {}
            finished, frames = self._holder(checkout, threads, suspended)
            active = None
            if checkout.frames and frames is not None:
                active = book.look(checkout, frames, suspended)
            key = checkout.ref() if checkout.ref is not None else None
            silence = _asked(_descriptor(key), _silence) if key is not None else None
            del key
            rows.append(
                [
                    checkout.pool.number,
                    checkout.slot,
                    checkout.holder,
                    now_ns - checkout.held_since,
                    checkout.stack,
                    finished,
                    len(checkout.frames) if checkout.frames else None,
                    active,
                    *(silence or (None, None, None)),
                    book.number_of(frames) if frames else None,
                ]
            )
        del threads
        return rows

    def _holder(
        self, checkout: Any, threads: dict[int, Any], suspended: dict[int, Any]
    ) -> tuple[bool | None, list[FrameType] | None]:
        """Return whether who took a connection has ended, and its frames, innermost first.

        The coroutines that the frames belong to are put into `suspended`, by the frame's identity.
        """
        if checkout.ended is not None:
            return bool(checkout.pool.adapter.has_ended(checkout.ended())), None
        if checkout.task is not None:
            task = checkout.task()
            if task is None or (task.dead if hasattr(task, "gr_frame") else task.done()):
                return True, []
            if hasattr(task, "gr_frame"):
                return False, _up(task.gr_frame) or None
            frames = _chain(task.get_coro(), suspended)
            running = task.get_coro()
            if getattr(running, "cr_running", False):  # it runs right now: in a thread's frames
                frames = next((each for each in map(_up, threads.values()) if frames[-1] in each), frames)
            return False, frames
        if not checkout.thread:
            return None, None
        frame = threads.get(checkout.thread)
        if frame is None:
            return True, []
        return (None if "asyncio.events" in sys.modules and _runs_loop(frame) else False), _up(frame)

    def _drain(self) -> None:
        """Send the events there are."""
        began_ns = time.thread_time_ns()
        events = self._book.events
        take, number = events.popleft, min(len(events), _MAX_DRAINED)
        self._book.sent += number
        # Bytes as they were noted: as JSON they would take ten times as long.
        packed = b2a_base64(b"".join([take() for _ in range(number)]), newline=False).decode()
        self._emit({"events": packed} if packed else {})
        self._cpu_ns += time.thread_time_ns() - began_ns

    def _emit(self, row: dict[str, Any]) -> None:
        """Send a row, with the names that are new in it."""
        book = self._book
        if book.new_pools:
            new, book.new_pools = book.new_pools, []
            row["pools"] = [[each.number, each.adapter.name, self._title(each)] for each in new]
        if book.new_stacks:
            stacks, book.new_stacks = book.new_stacks, []
            row["stacks"] = [[number, book.described(key)] for number, key in stacks]
        addresses = []
        for place in list(book.slots.values()):
            if place.address is not None and not place.told:
                place.told = True
                addresses.append([place.number, *place.address])
        if addresses:
            row["addresses"] = addresses
        if row:
            row["lost"] = book.lost
            self._probe.emit(row)

    def _title(self, entry: Any) -> str:
        """Return what people call a pool."""
        pool = entry.ref()
        try:
            return str(entry.adapter.title(pool)) if pool is not None else str(entry.title)
        except Exception as error:  # noqa: BLE001 - as for its state
            self._book.account(error)
            return ""

    def _cost_of_one(self) -> int:
        """Return what noting an acquisition or a return costs, in nanoseconds: the least of some tries."""
        least_ns = 1 << 62
        names = {"__name__": "perfkit calibration"}
        exec("class Pool: pass\nclass Slot: pass\nclass Adapter:\n name = folder = '\\0'\n", names)  # noqa: S102
        book = type(self._book)(self._hook)
        pool, slot, adapter = names["Pool"](), names["Slot"](), names["Adapter"]()  # type: ignore[operator]
        for _ in range(50):
            began_ns = monotonic_ns()
            book.acquired(book.wish(pool, adapter, sys._getframe()), slot)
            book.released(slot)
            least_ns = min(least_ns, monotonic_ns() - began_ns)
        return least_ns // 2


def _run(name: str, source: str) -> dict[str, Any]:
    """Return what a source defines."""
    namespace: dict[str, Any] = {"__name__": "perfkit probe " + name, "__builtins__": __builtins__}
    exec(compile(source, "<perfkit probe>", "exec"), namespace)  # noqa: S102
    return namespace


def _subclasses(kind: type) -> Iterator[type]:
    """Yield all subclasses of a class."""
    each: type
    for each in type.__subclasses__(kind):
        yield each
        yield from _subclasses(each)


def _up(frame: FrameType | None) -> list[FrameType]:
    """Return a frame and its callers."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < _MAX_CHAIN:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _chain(awaited: Any, suspended: dict[int, Any]) -> list[FrameType]:
    """Return the frames of the coroutines that wait for each other, innermost first."""
    frames: list[FrameType] = []
    while awaited is not None and len(frames) < _MAX_CHAIN:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        frame = frame or getattr(awaited, "ag_frame", None)
        if frame is None:
            # Between two steps of an asynchronous generator: it says what it waits for by reference only.
            name = type(awaited).__name__
            if name not in ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper"):
                break
            awaited = next((each for each in gc.get_referents(awaited) if _is_suspended(each)), None)
            continue
        frames.append(frame)
        suspended[id(frame)] = awaited
        for name in ("cr_await", "gi_yieldfrom", "ag_await"):
            if hasattr(awaited, name):
                awaited = getattr(awaited, name)
                break
    frames.reverse()
    return frames


def _is_suspended(thing: Any) -> bool:
    """Whether a thing has a frame of its own."""
    return any(hasattr(thing, name) for name in ("cr_frame", "gi_frame", "ag_frame"))


def _runs_loop(frame: FrameType | None) -> bool:
    """Whether a thread runs an event loop: it never ends, whatever the callback did that took a connection."""
    return any(each.f_code.co_name in ("run_forever", "_run_once") for each in _up(frame))


def _descriptor(thing: Any) -> int | None:
    """Return the descriptor of a connection's socket, None: it has none, or we do not know where."""
    seen = 0
    todo = [thing]
    while todo and seen < 24:
        each = todo.pop(0)
        seen += 1
        if issubclass(type(each), Socket):
            return each.fileno() if each.fileno() >= 0 else None
        extra = getattr(type(each), "get_extra_info", None)
        if extra is not None:
            found = each.get_extra_info("socket")
            number = getattr(found, "fileno", lambda: -1)()
            return number if number >= 0 else None
        for name in _TO_SOCKET:
            try:
                next_one = getattr(each, name, None)
            except Exception:  # noqa: BLE001, S112 - a property of the library that does not like to be read now
                continue
            if isinstance(next_one, int) and not isinstance(next_one, bool):
                return next_one if next_one >= 0 else None
            if next_one is not None and not callable(next_one):
                todo.append(next_one)
    return None


def _asked(descriptor: int | None, question: Callable[[Socket], T]) -> T | None:
    """Return what a socket of the target answers, asked through a copy that lives some microseconds; None: nothing.

    The socket of `_socket`: gevent and the like may have put another in the place of `socket`'s.
    """
    if descriptor is None:
        return None
    try:
        same = Socket(fileno=os.dup(descriptor))
    except OSError:
        return None
    try:
        return question(same)
    except (OSError, struct.error):
        return None
    finally:
        same.close()


def _address(same: Socket) -> tuple[str, str]:
    """Return local and remote address of a connected socket."""
    remote = same.getpeername()
    if same.family not in (AF_INET, AF_INET6):
        return "", str(remote or "unix")
    local = same.getsockname()
    return f"{local[0]}:{local[1]}", f"{remote[0]}:{remote[1]}"


def _silence(same: Socket) -> tuple[int, bool, int] | None:
    """Return for how long no data went over a socket, whether the last came from the peer, and how much lies unread.

    None: it is not TCP.
    """
    if same.family not in (AF_INET, AF_INET6):
        return None
    from fcntl import ioctl

    fields = _TCP_INFO.unpack(same.getsockopt(IPPROTO_TCP, TCP_INFO, _TCP_INFO.size))
    sent, received = int(fields[_LAST_DATA_SENT]), int(fields[_LAST_DATA_RECEIVED])
    unread: int = struct.unpack("i", ioctl(same.fileno(), _FIONREAD, b"\0\0\0\0"))[0]
    # Times are those of a clock that ticks every few milliseconds: a question that follows an answer at once seems
    # to be of the same time. But an answer brings the acknowledgement of its question with it; where that is still to
    # come, or came later and alone, there is none yet.
    waits = fields[_UNACKNOWLEDGED] or (received == sent and fields[_LAST_ACK_RECEIVED] < received)
    return min(sent, received) * 1_000_000, received <= sent and not waits, unread
