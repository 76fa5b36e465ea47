"""Keeps book of the pools of a target: who has which connection since when, and what happened, as rows of numbers.

Everything that adapters call runs in the threads of the target: it takes no lock, waits for
nothing, and holds no reference to a connection, a task or a frame of the target. Single
operations on dictionaries and deques are all that threads share.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from _weakref import ref
from collections import deque
from itertools import count
from struct import Struct
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

ROOM = 20_000
"""Events there is room for between two drains."""
UNKNOWN = -1
_NOT_COMPARED = -2
EVENTS = (
    "found", "found_in_use", "created", "acquired", "released", "closed", "timeout", "cancelled", "failed",
    "collected", "waiting",
)  # fmt: skip
"""Kinds of events; a row has the place in here."""
EVENT = Struct("<qbiiqqiib")
"""A row: when, kind, pool, connection, waited and held in nanoseconds, holder, stack, active frames; -1: unknown.

Bytes, because the garbage collector of the target does not count them: rows that pile up between two
drains must not be what makes it collect.
"""
_row = EVENT.pack
_KINDS = {name: number for number, name in enumerate(EVENTS)}
_ACQUIRED, _RELEASED = _KINDS["acquired"], _KINDS["released"]

_MAX_FRAMES = 48
_WINDOW_BITS = 27
"""A window is 2 ** 27 ns, 0.13 s."""
_STACKS_PER_WINDOW = 40
"""Most stacks that are taken in a window, 300 per second: a stack costs more than all the rest."""
_MORE_FRAMES = 8
"""Frames that are kept above the innermost of the program's own."""
_MAX_STACKS = 5000
_MAX_UNOWNED = 10_000
_COMPARED = 16
"""Every check-in is compared with its check-out until a place has so many, then one in so many."""
_FULL = frozenset(("PoolTimeout", "TimeoutError", "EmptyPoolError", "Empty", "TooManyRequests", "AcquireTimeout",
                   "MaxConnectionsError", "ConnectionTimeoutError", "QueueEmpty"))  # fmt: skip
"""Exceptions that say: no connection became free in time."""
_GIVEN_UP = frozenset(("CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit"))


class Reference(ref):  # type: ignore[type-arg]
    """A weak reference that knows the identity of what it refers to."""

    __slots__ = ("number",)

    number: int


class PoolEntry:
    """A pool that was seen."""

    __slots__ = ("adapter", "number", "ref", "title", "told")

    def __init__(self, number: int, pool: Any, adapter: Any) -> None:
        self.number = number
        self.adapter = adapter
        self.told: dict[str, Any] = {}
        try:  # now: a pool of one use is gone before anybody asks again
            self.title = str(adapter.title(pool))
        except Exception:  # noqa: BLE001 - a version of the library that we do not know; a pool that is being made
            self.title = ""
        try:
            self.ref: Callable[[], Any] = ref(pool)
        except TypeError:  # asyncpg's lets nobody refer to it weakly
            self.ref = lambda: pool


class Slot:
    """A connection: a slot of a pool from one connect to the next close."""

    __slots__ = ("address", "is_born", "number", "pool", "ref", "told")

    def __init__(self, number: int, pool: int, reference: Any) -> None:
        self.number, self.pool, self.ref = number, pool, reference
        self.address: tuple[str, str] | None = None
        self.is_born = False
        self.told = False


class Checkout:
    """One acquisition: from the wish for a connection to its return.

    Whoever makes one sets all attributes itself: an initialiser would take as long as all the rest.
    """

    __slots__ = (
        "active", "ended", "frames", "held_since", "holder", "pool", "ref", "seen", "slot", "stack", "task", "thread",
        "told", "wished_at",
    )  # fmt: skip

    active: int
    ended: Any
    frames: tuple[int, ...]
    held_since: int
    holder: int
    pool: PoolEntry
    ref: Any
    seen: dict[int, Callable[[], Any]] | None
    slot: int
    stack: int
    task: Any
    thread: int
    told: bool
    wished_at: int


class Book:
    """What is known about all pools of the target."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook
        self.depth = 2
        self.events: deque[bytes] = deque()
        self.lost = 0
        self.errors = 0
        self.first_error = ""
        self.in_vain: dict[tuple[int, str], int] = {}
        self.sent = 0
        self.pools: dict[int, PoolEntry] = {}
        self.new_pools: list[PoolEntry] = []
        self.slots: dict[int, Slot] = {}
        self.checkouts: dict[int, Checkout] = {}
        self.wishes: dict[int, Checkout] = {}
        self.new_stacks: list[tuple[int, list[Any]]] = []
        self.stack_numbers: dict[tuple[int, ...], int] = {}
        self._codes: dict[int, Any] = {}
        self._is_own: dict[int, bool] = {}
        self._holders: dict[int, tuple[Any, int]] = {}
        self._threads: dict[int, int] = {}
        self._numbers = count(1)
        self.someone = self._numbers.__next__
        self._unowned: dict[int, tuple[int, Any]] = {}
        self._returns: dict[int, int] = {}
        self._window = self._room = 0
        self._loop_of_thread: Any = None
        self._task_of_loop: Any = None
        self._pool_count = 0
        self._slot_count = 0

    def account(self, error: BaseException) -> None:
        """Note that something of ours went wrong."""
        self.errors += 1
        if not self.first_error:
            self.first_error = f"{type(error).__name__}: {error}"

    # What adapters hook --------------------------------------------------------------------------

    def wishing(self, adapter: Any) -> Callable[[Any, Any], Checkout]:
        """Return what to call when a function begins that acquires from its first parameter, a pool."""
        return lambda values, frame: self.wish(values[0], adapter, frame)

    def first(self, values: list[Any], _frame: Any) -> Any:
        """Return the first parameter, for the end of the call."""
        return values[0]

    def releasing(self, values: Any, _frame: Any) -> None:
        """Note that the first parameter, if it is a connection, is back: `released` for the usual case."""
        key = values[0]
        number = id(key)
        checkout = self.checkouts.get(number)
        if checkout is None or not (checkout.ref is None or checkout.ref() is key):
            return
        self.checkouts.pop(number, None)
        if checkout.frames:
            self._end(checkout, "released")
            return
        now_ns = monotonic_ns()
        events = self.events
        if len(events) >= ROOM:
            self.lost += 1
            return
        events.append(
            _row(now_ns, _RELEASED, checkout.pool.number, checkout.slot, UNKNOWN, now_ns - checkout.held_since,
                 checkout.holder, UNKNOWN, UNKNOWN)
        )  # fmt: skip

    def closing(self, values: list[Any], _frame: Any) -> None:
        """Note that the first parameter, a connection, is closed."""
        self.closed(values[0])

    # What adapters say ---------------------------------------------------------------------------

    def pool(self, pool: Any, adapter: Any) -> PoolEntry:
        """Return what is known about a pool; it is noted when it is new."""
        entry = self.pools.get(id(pool))
        if entry is None or entry.ref() is not pool:
            self._pool_count += 1
            entry = PoolEntry(self._pool_count, pool, adapter)
            self.pools[id(pool)] = entry
            self.new_pools.append(entry)
        return entry

    def wish(self, pool: Any, adapter: Any, frame: FrameType | None) -> Checkout:
        """Note that somebody begins to acquire a connection."""
        entry = self.pools.get(id(pool))
        if entry is None or entry.ref() is not pool:
            entry = self.pool(pool, adapter)
        wish = Checkout()
        wish.active = wish.slot = UNKNOWN
        wish.ended = wish.ref = wish.seen = wish.task = None
        wish.held_since = 0
        wish.told = False
        wish.pool = entry
        wish.thread = thread = get_ident()
        wish.wished_at = now_ns = monotonic_ns()
        task = self._current_task()
        if task is None and ("gevent" in sys.modules or "eventlet" in sys.modules):
            task = _current_greenlet()
        if task is None:
            wish.holder = self._threads.get(thread) or self._holder(thread)
        else:
            known = self._holders.get(id(task))
            if known is None or known[0]() is not task:
                known = self._new_holder(task)
            wish.task, wish.holder = known
        if self._room or now_ns >> _WINDOW_BITS != self._window:
            self._sample(wish, frame, adapter, task)
        else:
            wish.stack, wish.frames = UNKNOWN, ()
        self.wishes[id(wish)] = wish
        return wish

    def lent(self, pool: Any, adapter: Any, slot: Any, frame: FrameType | None, holder: Any = None) -> None:
        """Note that a connection was acquired on the spot, asked for by what `begin` of a hook calls this.

        A `holder` that is neither a task nor a thread may be named: `adapter.has_ended(holder)` has to tell whether
        it is gone. No reference to it is kept.
        """
        if holder is None:
            self.acquired(self.wish(pool, adapter, frame or sys._getframe(self.depth + 1)), slot)
            return
        entry = self.pools.get(id(pool))
        if entry is None or entry.ref() is not pool:
            entry = self.pool(pool, adapter)
        number = id(slot)
        place = self.slots.get(number)
        if place is None or not (place.ref is None or place.ref() is slot):
            place = self._slot(slot, entry)
        checkouts = self.checkouts
        if number in checkouts:
            self.released(slot)
        checkout = Checkout()
        checkout.pool = entry
        checkout.slot = connection = place.number
        checkout.ref = place.ref
        checkout.holder = someone = self.someone()
        checkout.ended = ref(holder)
        checkout.wished_at = checkout.held_since = now_ns = monotonic_ns()
        checkout.active = UNKNOWN
        checkout.seen = checkout.task = None
        checkout.thread = 0
        checkout.told = False
        if self._room or now_ns >> _WINDOW_BITS != self._window:
            self._sample(checkout, frame or sys._getframe(self.depth + 1), adapter, None)
        else:
            checkout.stack, checkout.frames = UNKNOWN, ()
        checkouts[number] = checkout
        events = self.events
        if len(events) >= ROOM:
            self.lost += 1
            return
        events.append(_row(now_ns, _ACQUIRED, entry.number, connection, 0, UNKNOWN, someone, checkout.stack, UNKNOWN))

    def acquired(self, wish: Checkout, slot: Any, key: Any = None) -> None:
        """Note that a wish was granted; `key` stands for this use where several can share a slot."""
        self.wishes.pop(id(wish), None)
        if slot is None:
            return
        if key is None:
            key = slot
        number = id(key)
        if number in self.checkouts:
            # It may be this very wish: httpcore gives another connection if one was taken away.
            self.released(key)
        wish.held_since = now_ns = monotonic_ns()
        place = self.slots.get(id(slot))
        if place is None or not (place.ref is None or place.ref() is slot):
            place = self._slot(slot, wish.pool)
        wish.slot = place.number
        wish.ref = place.ref if key is slot else _reference(key, self._key_is_gone)
        self.checkouts[number] = wish
        events = self.events
        if len(events) >= ROOM:
            self.lost += 1
            return
        events.append(
            _row(
                now_ns,
                _ACQUIRED,
                wish.pool.number,
                place.number,
                now_ns - wish.wished_at,
                UNKNOWN,
                wish.holder,
                wish.stack,
                UNKNOWN,
            )
        )

    def gave_up(self, wish: Checkout, error: BaseException | None, event: str = "") -> None:
        """Note that a wish was not granted."""
        if self.wishes.pop(id(wish), None) is None:
            return
        now_ns = monotonic_ns()
        event = event or _why(error)
        key = wish.pool.number, event
        self.in_vain[key] = self.in_vain.get(key, 0) + 1
        self._note(now_ns, event, wish.pool.number, UNKNOWN, now_ns - wish.wished_at, UNKNOWN, wish.holder, wish.stack)

    def released(self, key: Any, event: str = "released") -> None:
        """Note that a connection is back."""
        number = id(key)
        checkout = self.checkouts.get(number)
        if checkout is None or not (checkout.ref is None or checkout.ref() is key):
            return
        self.checkouts.pop(number, None)
        self._end(checkout, event)

    def returning(self, key: Any) -> None:
        """Note that somebody begins to return a connection, where the pool does the rest in another task."""
        checkout = self.checkouts.get(id(key))
        if checkout is not None and _is(checkout.ref, key):
            checkout.active = self._compared(checkout)

    def created(self, slot: Any, _value: Any = None, *, pool: Any = None, adapter: Any = None) -> None:
        """Note that a slot has a new connection; of which pool is found out later if need be."""
        now_ns = monotonic_ns()
        known = self.slots.get(id(slot))
        if known is not None and not _is(known.ref, slot):
            known = None
        if pool is None and known is None:
            if len(self._unowned) < _MAX_UNOWNED:
                self._unowned[id(slot)] = now_ns, _reference(slot)
            return
        number = self.pool(pool, adapter).number if pool is not None else known.pool if known else 0
        place = known if known is not None and not known.is_born else self._new_slot(slot, number)
        place.is_born = True
        checkout = self.checkouts.get(id(slot))
        if checkout is not None:
            checkout.slot = place.number
        self._note(now_ns, "created", number, place.number)

    def closed(self, slot: Any) -> None:
        """Note that the connection of a slot was closed, lent or not."""
        self._unowned.pop(id(slot), None)
        place = self.slots.get(id(slot))
        if place is None or not _is(place.ref, slot):
            return
        del self.slots[id(slot)]
        self._close(id(slot), place)

    def found(self, slot: Any, pool: PoolEntry, *, in_use: bool) -> None:
        """Note a connection that was there before us."""
        place = self.slots.get(id(slot))
        if place is not None and _is(place.ref, slot):
            return
        place = self._new_slot(slot, pool.number)
        place.is_born = True
        now_ns = monotonic_ns()
        if in_use and id(slot) not in self.checkouts:
            checkout = Checkout()
            checkout.pool, checkout.thread, checkout.wished_at = pool, 0, now_ns
            checkout.active = checkout.holder = checkout.stack = UNKNOWN
            checkout.ended = checkout.seen = checkout.task = None
            checkout.frames, checkout.told = (), False
            checkout.slot, checkout.held_since = place.number, now_ns
            checkout.ref = _reference(slot, self._key_is_gone)
            self.checkouts[id(slot)] = checkout
        self._note(now_ns, "found_in_use" if in_use else "found", pool.number, place.number)

    # What the readings say -----------------------------------------------------------------------

    def keep_only(self, pool: PoolEntry, slots: list[Any]) -> None:
        """Note as closed what a pool had before and has no more."""
        living = {id(slot) for slot in slots}
        for number, place in list(self.slots.items()):
            if place.pool == pool.number and number not in living and number not in self.checkouts:
                self.slots.pop(number, None)
                self._close(number, place)

    def long_waits(self, at_least_ns: int) -> None:
        """Note, once each, the wishes that are not granted for so long."""
        now_ns = monotonic_ns()
        for wish in list(self.wishes.values()):
            if not wish.told and now_ns - wish.wished_at >= at_least_ns:
                wish.told = True
                self._note(wish.wished_at, "waiting", wish.pool.number, UNKNOWN, UNKNOWN, UNKNOWN, wish.holder,
                           wish.stack)  # fmt: skip

    def waiting(self, pool: PoolEntry) -> int:
        """Return how many wait for a connection of a pool."""
        return sum(wish.pool is pool for wish in list(self.wishes.values()))

    def number_of(self, frames: list[FrameType]) -> int:
        """Return the number of a stack of suspended or running frames, innermost first."""
        key: list[int] = []
        for frame in frames[:_MAX_FRAMES]:
            code = frame.f_code
            self._codes.setdefault(id(code), code)
            key += (id(code), frame.f_lasti)
        return self._numbered(tuple(key))

    def is_own(self, code: Any) -> bool:
        """Whether code is the program's own, not a library's."""
        own = self._is_own.get(id(code))
        if own is None:
            self._codes.setdefault(id(code), code)
            file = code.co_filename
            own = not ("site-packages" in file or "dist-packages" in file or "/lib/python" in file or file[:1] == "<")
            self._is_own[id(code)] = own
        return own

    # Inside --------------------------------------------------------------------------------------

    def _note(
        self, at_ns: int, event: str, pool: int, slot: int, wait_ns: int = UNKNOWN, held_ns: int = UNKNOWN,
        holder: int = UNKNOWN, stack: int = UNKNOWN, active: int = UNKNOWN,
    ) -> None:  # fmt: skip
        """Keep a row, or count it as lost."""
        if len(self.events) >= ROOM:
            self.lost += 1
            return
        self.events.append(_row(at_ns, _KINDS[event], pool, slot, wait_ns, held_ns, holder, stack, min(active, 127)))

    def _end(self, checkout: Checkout, event: str) -> None:
        """Note the end of a check-out, and how much of the stack that took it is still there."""
        now_ns = monotonic_ns()
        active = UNKNOWN
        if checkout.frames and event == "released":
            active = checkout.active
            if active == UNKNOWN:
                active = self._compared(checkout)
            active = min(max(active, UNKNOWN), 127)
        if len(self.events) >= ROOM:
            self.lost += 1
            return
        self.events.append(
            _row(now_ns, _KINDS[event], checkout.pool.number, checkout.slot, UNKNOWN, now_ns - checkout.held_since,
                 checkout.holder, checkout.stack, active)
        )  # fmt: skip

    def _compared(self, checkout: Checkout) -> int:
        """Return how many frames that took a connection are active where it is being returned; not every time."""
        seen = self._returns.get(checkout.stack, 0)
        self._returns[checkout.stack] = seen + 1
        if not checkout.frames or (seen >= _COMPARED and seen % _COMPARED):
            return _NOT_COMPARED
        return self.still_active(checkout, _frames_above(sys._getframe(2)))

    def still_active(self, checkout: Checkout, frames: Iterator[FrameType]) -> int:
        """Return how many of the program's own frames that took a connection are among others."""
        living = {id(frame) for frame in frames if self.is_own(frame.f_code)}
        return sum(frame in living for frame in checkout.frames)

    def look(self, checkout: Checkout, frames: list[FrameType], suspended: dict[int, Any]) -> int:
        """Return how many of the program's own frames that took a connection have not returned.

        A frame that was once seen to be gone stays gone: its address may be used again. Where a
        coroutine belongs to it (`suspended` by the frame's identity), the coroutine has to be the same every time.
        """
        living = {id(frame) for frame in frames}
        kept = []
        known = checkout.seen
        if known is None:
            known = checkout.seen = {}
        for number in checkout.frames:
            if number not in living or known.get(number, _always)() is None:
                known[number] = _never
            elif number in suspended and number not in known:
                known[number] = ref(suspended[number])
            if known.get(number) is not _never:
                kept.append(number)
        return len(kept)

    def _close(self, number: int, place: Slot) -> None:
        """Note the end of a connection, and of its use."""
        checkout = self.checkouts.get(number)
        if checkout is not None and checkout.slot == place.number:
            self.checkouts.pop(number, None)
            self._end(checkout, "closed")
        else:
            self._note(monotonic_ns(), "closed", place.pool, place.number)

    def _slot(self, slot: Any, pool: PoolEntry) -> Slot:
        """Return what is known about a slot, made when it is new."""
        place = self.slots.get(id(slot))
        if place is not None and _is(place.ref, slot):
            return place
        place = self._new_slot(slot, pool.number)
        born = self._unowned.pop(id(slot), None)
        if born is not None and _is(born[1], slot):
            place.is_born = True
            self._note(born[0], "created", pool.number, place.number)
        return place

    def _new_slot(self, slot: Any, pool: int) -> Slot:
        """Give the connection of a slot a number."""
        self._slot_count += 1
        place = Slot(self._slot_count, pool, _reference(slot, self._slot_is_gone))
        self.slots[id(slot)] = place
        return place

    def _slot_is_gone(self, reference: Reference) -> None:
        """Run when a slot is freed, in whatever thread."""
        try:
            place = self.slots.get(reference.number)
            if place is not None and place.ref is reference:
                self.slots.pop(reference.number, None)
                self._close(reference.number, place)
        except Exception as error:  # noqa: BLE001 - it would be printed by the target
            self.account(error)

    def _key_is_gone(self, reference: Reference) -> None:
        """Run when what stands for a check-out is freed before it came back."""
        try:
            checkout = self.checkouts.get(reference.number)
            if checkout is not None and checkout.ref is reference:
                self.checkouts.pop(reference.number, None)
                self._end(checkout, "collected")
        except Exception as error:  # noqa: BLE001 - as above
            self.account(error)

    def _holder(self, thread: int) -> int:
        """Return the number of a thread."""
        number = self._threads.get(thread)
        if number is None:
            number = self._threads[thread] = self.someone()
        return number

    def _new_holder(self, task: Any) -> tuple[Any, int]:
        """Give a task a number; return it with a reference to the task."""
        known = self._holders[id(task)] = ref(task), self.someone()
        if len(self._holders) > 2 * _MAX_UNOWNED:
            for number, (reference, _holder) in list(self._holders.items()):
                if reference() is None:
                    self._holders.pop(number, None)
        return known

    def _current_task(self) -> Any:
        """Return asyncio's task that runs in this thread, None: none does."""
        running = self._loop_of_thread
        if running is None:
            events, tasks = sys.modules.get("asyncio.events"), sys.modules.get("asyncio.tasks")
            if not hasattr(events, "_get_running_loop") or not hasattr(tasks, "current_task"):
                return None
            running = self._loop_of_thread = events._get_running_loop  # type: ignore[union-attr]
            known = getattr(tasks, "_current_tasks", None) if sys.version_info < (3, 12) else None
            self._task_of_loop = tasks.current_task if known is None else known.get  # type: ignore[union-attr]
        loop = running()
        return self._task_of_loop(loop) if loop is not None else None

    def _sample(self, checkout: Checkout, frame: Any, adapter: Any, task: Any) -> None:
        """Note the stack that takes a connection, unless there were enough of late."""
        window = monotonic_ns() >> _WINDOW_BITS
        if window != self._window:
            self._window, self._room = window, _STACKS_PER_WINDOW
        self._room -= 1
        root = getattr(task.get_coro(), "cr_frame", None) if hasattr(task, "get_coro") else None
        checkout.stack, checkout.frames = self._stack(frame, adapter.folder, root)

    def _stack(self, frame: Any, folder: str, root: Any) -> tuple[int, tuple[int, ...]]:
        """Return the number of a stack without the library's frames at its end, and the identities of frames in it.

        Those are the program's own, as far as they belong to the task whose first frame is `root`. It ends
        some frames above the innermost of them: who takes a connection matters, not how a framework came there.
        """
        while frame is not None and frame.f_code.co_filename.startswith(folder):
            frame = frame.f_back
        key: list[int] = []
        own: list[int] = []
        is_own = self._is_own
        room, belongs = _MAX_FRAMES, True
        while frame is not None and room:
            room -= 1
            code = frame.f_code
            number = id(code)
            key.append(number)
            key.append(frame.f_lasti)
            mine = is_own.get(number)
            if mine is None:
                mine = self.is_own(code)
            if mine and belongs:
                if not own:
                    room = min(room, _MORE_FRAMES)
                own.append(id(frame))
            if frame is root:
                belongs = False
            frame = frame.f_back or _above(frame)
        return self._numbered(tuple(key)), tuple(own)

    def _numbered(self, key: tuple[int, ...]) -> int:
        """Return the number of a stack."""
        number = self.stack_numbers.get(key)
        if number is None:
            if not key or len(self.stack_numbers) >= _MAX_STACKS:
                return UNKNOWN
            number = len(self.stack_numbers)
            self.stack_numbers[key] = number
            self.new_stacks.append((number, list(key)))
        return number

    def described(self, key: list[int]) -> list[Any]:
        """Return function, file and line of each frame of a stack, outermost first, as one flat list."""
        flat: list[Any] = []
        for at in range(len(key) - 2, -1, -2):
            code = self._codes[key[at]]
            flat += (getattr(code, "co_qualname", code.co_name), code.co_filename, _line(code, key[at + 1]))
        return flat


def _always() -> bool:
    """Stand for a frame of which no coroutine is known."""
    return True


def _never() -> None:
    """Stand for a frame that was seen to be gone."""


def _frames_above(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers, through the greenlets that wait for each other."""
    while frame is not None:
        yield frame
        frame = frame.f_back or _above(frame)


def _above(frame: FrameType) -> FrameType | None:
    """Return the frame that waits for the greenlet whose first frame this is, None: there is none."""
    greenlet = sys.modules.get("greenlet")
    current = greenlet.getcurrent() if greenlet is not None else None
    while current is not None:
        current = current.parent
        waiting = getattr(current, "gr_frame", None)
        if waiting is not None and waiting is not frame and not _is_above(waiting, frame):
            return waiting  # type: ignore[no-any-return]
    return None


def _is_above(frame: FrameType | None, first: FrameType) -> bool:
    """Whether a first frame belongs to the same greenlet as another."""
    while frame is not None:
        if frame is first:
            return True
        frame = frame.f_back
    return False


def _current_greenlet() -> Any:
    """Return gevent's or eventlet's greenlet that runs in this thread, None: it is a thread of its own."""
    current = sys.modules["greenlet"].getcurrent()
    return current if current.parent is not None else None


def _why(error: BaseException | None) -> str:
    """Return what an exception says about a wish that was not granted."""
    for each in (error, getattr(error, "__context__", None)):
        names = {kind.__name__ for kind in type(each).__mro__}
        if names & _GIVEN_UP:
            return "cancelled"
        if names & _FULL and not any(name.startswith("Connect") and "Timeout" in name for name in names - _FULL):
            return "timeout"
    return "failed"


def _reference(thing: Any, callback: Any = None) -> Reference | None:
    """Return a weak reference, None where it is not allowed: there the identity has to do."""
    try:
        reference = Reference(thing, callback)
    except TypeError:
        return None
    reference.number = id(thing)
    return reference


def _is(reference: Any, thing: Any) -> bool:
    """Whether a reference is to this thing, as far as can be told."""
    return reference is None or reference() is thing


def _line(code: Any, position: int) -> int:
    """Return the line of the instruction at a position."""
    for start, end, line in code.co_lines():
        if start <= position < end and line is not None:
            return int(line)
    return int(code.co_firstlineno)
