"""Calls us when functions of the target begin and end, and lets go of them without a trace.

From 3.12 on by `sys.monitoring`: events of just these code objects, nothing in the target is
replaced, and methods bound before are seen too. Before, by replacing the functions in their
classes. What we are called with is read in the thread of the target, so whatever goes wrong in
there stays in there.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ASYNC = 0x80 | 0x100
"""Code of coroutine functions, or of iterable coroutines."""
_TOOLS = (4, 3, 2, 5)
"""Numbers that sys.monitoring gives to tools, those that are nobody's by convention first."""
_NAME = "perfkit pools"
_MAX_UNWINDS_PER_S = 20_000


class Hook:
    """A function, and what to call when it begins, returns and raises.

    `begin(values, frame)` gets the values of the parameters that `names` names and the frame of
    the caller; what it returns is given to `end(token, value)` or `failed(token, error)`; None: neither is called.
    """

    __slots__ = (
        "begin",
        "code",
        "end",
        "failed",
        "is_plain",
        "name",
        "names",
        "original",
        "owner",
        "places",
        "replaced",
        "tokens",
    )

    def __init__(
        self, owner: Any, name: str, names: tuple[str, ...], begin: Any, end: Any = None, failed: Any = None
    ) -> None:
        self.owner, self.name, self.names = owner, name, names
        self.begin, self.end, self.failed = begin, end, failed
        self.original = vars(owner).get(name)
        function = self.original
        while hasattr(function, "__wrapped__"):  # what a decorator decorates is what has the parameters
            function = function.__wrapped__
        self.code = getattr(function, "__code__", None)
        self.replaced: Any = None
        self.tokens: dict[int, Any] = {}
        self.places: tuple[int, ...] = ()
        self.is_plain = False
        if self.code is not None:
            parameters = self.code.co_varnames[: self.code.co_argcount + self.code.co_kwonlyargcount]
            self.places = tuple(parameters.index(each) if each in parameters else -1 for each in names)
            self.is_plain = self.places == tuple(range(len(names)))
            if self.places[0] < 0:  # another version of the library
                self.code = None


class Monitoring:
    """Hooks by sys.monitoring (3.12 and later)."""

    def __init__(self, account: Any) -> None:
        self._account = account
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        self._hooks: dict[Any, Hook] = {}
        self._unwinds = 0
        self.too_many_unwinds = False
        self._tool = -1
        for tool in _TOOLS:
            try:
                self._monitoring.use_tool_id(tool, _NAME)
            except ValueError:
                continue
            self._tool = tool
            break
        else:
            raise RuntimeError("all tools of sys.monitoring are in use")
        events = self._monitoring.events
        self._local = events.PY_START | events.PY_RETURN
        for event, function in (
            (events.PY_START, self._start),
            (events.PY_RETURN, self._return),
            (events.PY_UNWIND, self._unwind),
        ):
            self._monitoring.register_callback(tool, event, function)

    def add(self, hook: Hook) -> bool:
        """Begin to watch a function; return whether it is one that can be."""
        if hook.code is None or hook.code in self._hooks:
            return False
        if not self._hooks:
            self._monitoring.set_events(self._tool, self._monitoring.events.PY_UNWIND)
        self._hooks[hook.code] = hook
        self._monitoring.set_local_events(self._tool, hook.code, self._local)
        return True

    def remove(self) -> None:
        """Let go of everything, and give the tool's number back."""
        if self._tool < 0:
            return
        events = self._monitoring.events
        self._monitoring.set_events(self._tool, 0)
        for code in list(self._hooks):
            self._monitoring.set_local_events(self._tool, code, 0)
        for event in (events.PY_START, events.PY_RETURN, events.PY_UNWIND):
            self._monitoring.register_callback(self._tool, event, None)
        self._monitoring.free_tool_id(self._tool)
        self._tool = -1
        self._hooks.clear()

    def check(self, over_s: float) -> None:
        """Stop listening to exceptions in a target that raises so many that it would cost too much."""
        unwinds, self._unwinds = self._unwinds, 0
        if unwinds > _MAX_UNWINDS_PER_S * over_s and self._tool >= 0:
            self.too_many_unwinds = True
            self._monitoring.set_events(self._tool, 0)

    def _start(self, code: Any, _offset: int) -> None:
        """Run at the beginning of a function."""
        hook = self._hooks.get(code)
        if hook is None:
            return
        try:
            frame = sys._getframe(1)
            values = frame.f_locals
            token = hook.begin([values.get(name) for name in hook.names], frame.f_back)
            if token is not None:
                hook.tokens[id(frame)] = token
        except Exception as error:  # noqa: BLE001 - it would be raised in the target
            self._account(error)

    def _return(self, code: Any, _offset: int, value: Any) -> None:
        """Run when a function returns."""
        hook = self._hooks.get(code)
        if hook is None or not hook.tokens:
            return
        try:
            token = hook.tokens.pop(id(sys._getframe(1)), None)
            if token is not None and hook.end is not None:
                hook.end(token, value)
        except Exception as error:  # noqa: BLE001 - as above
            self._account(error)

    def _unwind(self, code: Any, _offset: int, raised: BaseException) -> None:
        """Run when any function of the target is left by an exception."""
        self._unwinds += 1
        hook = self._hooks.get(code)
        if hook is None or not hook.tokens:
            return
        try:
            token = hook.tokens.pop(id(sys._getframe(1)), None)
            if token is not None and hook.failed is not None:
                hook.failed(token, raised)
        except Exception as error:  # noqa: BLE001 - as above
            self._account(error)


class Wrapping:
    """Hooks by replacing functions in their classes and modules (3.10 and 3.11)."""

    too_many_unwinds = False

    def __init__(self, account: Any) -> None:
        self._account = account
        self._hooks: list[Hook] = []
        self.active = True

    def add(self, hook: Hook) -> bool:
        """Begin to watch a function; return whether it is one that can be."""
        if hook.code is None or any(each.code is hook.code for each in self._hooks):
            return False
        hook.replaced = self._wrapper(hook)
        setattr(hook.owner, hook.name, hook.replaced)
        self._hooks.append(hook)
        return True

    def remove(self) -> None:
        """Put the functions back; who has kept one of ours calls the original through it."""
        self.active = False
        for hook in self._hooks:
            if vars(hook.owner).get(hook.name) is hook.replaced:
                setattr(hook.owner, hook.name, hook.original)
            hook.replaced = None
        self._hooks.clear()

    def check(self, over_s: float) -> None:
        """Do nothing: only what is watched costs anything."""

    def _begin(self, hook: Hook, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return what belongs to one call, None: nothing."""
        if not self.active:
            return None
        try:
            if hook.is_plain and len(args) >= len(hook.places):
                values = args[: len(hook.places)]  # the first parameters, all by place
            else:
                values = tuple(
                    args[place] if 0 <= place < len(args) else named.get(name)
                    for name, place in zip(hook.names, hook.places)  # noqa: B905 - made of each other, and 3.10
                )
            return hook.begin(values, sys._getframe(2))
        except Exception as error:  # noqa: BLE001 - as above
            self._account(error)
            return None

    def _end(self, function: Any, token: Any, value: Any) -> None:
        """Say how a call ended."""
        if token is None or function is None or not self.active:
            return
        try:
            function(token, value)
        except Exception as error:  # noqa: BLE001 - as above
            self._account(error)

    def _wrapper(self, hook: Hook) -> Callable[..., Any]:
        """Return the function that takes the place of another."""
        original: Any = hook.original
        code: Any = hook.code
        begin, end = self._begin, self._end

        async def waits(*args: Any, **named: Any) -> Any:
            token = begin(hook, args, named)
            try:
                value = await original(*args, **named)
            except BaseException as error:
                end(hook.failed, token, error)
                raise
            end(hook.end, token, value)
            return value

        def begins(*args: Any, **named: Any) -> Any:
            begin(hook, args, named)
            return original(*args, **named)

        def runs(*args: Any, **named: Any) -> Any:
            token = begin(hook, args, named)
            try:
                value = original(*args, **named)
            except BaseException as error:
                end(hook.failed, token, error)
                raise
            end(hook.end, token, value)
            return value

        wrapper: Any = waits if code.co_flags & _ASYNC else runs
        if hook.end is None and hook.failed is None:
            wrapper = begins
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(wrapper, name, getattr(original, name))
        wrapper.__dict__.update(original.__dict__)
        wrapper.__wrapped__ = original
        return wrapper  # type: ignore[no-any-return]


def hooking(account: Any) -> Monitoring | Wrapping:
    """Return the way to watch functions that this interpreter has."""
    if hasattr(sys, "monitoring"):
        try:
            return Monitoring(account)
        except RuntimeError:
            pass
    return Wrapping(account)
