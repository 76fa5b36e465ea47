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
_REST, _MORE = 0x04, 0x08
"""Code with a parameter for further arguments: by place, by name.

Source: CO_VARARGS and CO_VARKEYWORDS, https://docs.python.org/3/library/inspect.html#inspect.CO_VARARGS
"""
_TOOLS = (4, 3, 2, 5)
"""Numbers that sys.monitoring gives to tools, those that are nobody's by convention first."""
_NAME = "perfkit pools"
_MAX_UNWINDS_PER_S = 20_000


class Hook:
    """A function, and what to call when it begins, returns and raises.

    `begin(values, frame)` gets the values of the parameters that `names` names and the frame of
    the caller; what it returns is given to `end(token, value)` or `failed(token, error)`; None: neither is called.
    The frame is None when it is `frameless`: `begin` asks for `sys._getframe(DEPTH)` if it needs one after all, with
    the `depth` of whatever watches.
    """

    __slots__ = (
        "begin",
        "code",
        "end",
        "failed",
        "frameless",
        "is_decorated",
        "name",
        "names",
        "original",
        "owner",
        "replaced",
        "tokens",
    )

    def __init__(
        self, owner: Any, name: str, names: tuple[str, ...], begin: Any, end: Any = None, failed: Any = None,
        *, frameless: bool = False,
    ) -> None:  # fmt: skip
        self.owner, self.name, self.names = owner, name, names
        self.begin, self.end, self.failed = begin, end, failed
        self.frameless = frameless
        self.original = vars(owner).get(name)
        function = self.original
        while hasattr(function, "__wrapped__"):  # what a decorator decorates is what has the parameters
            function = function.__wrapped__
        self.code = getattr(function, "__code__", None)
        self.replaced: Any = None
        self.tokens: dict[int, Any] = {}
        self.is_decorated = function is not self.original
        if self.code is not None and names[0] not in _parameters(self.code):  # another version of the library
            self.code = None


def _parameters(code: Any) -> tuple[str, ...]:
    """Return the names of a function's parameters, those for the rest not among them."""
    return tuple(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


class Monitoring:
    """Hooks by sys.monitoring (3.12 and later)."""

    depth = 3
    """Frames from a hook's `begin` to the caller of what it watches."""

    def __init__(self, account: Any) -> None:
        self._account = account
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        self._hooks: dict[int, Hook] = {}  # by the identity of the code, whose hash takes as long as all the rest
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
        for event, function in (
            (events.PY_START, self._start),
            (events.PY_RETURN, self._return),
            (events.PY_UNWIND, self._unwind),
        ):
            self._monitoring.register_callback(tool, event, function)

    def add(self, hook: Hook) -> bool:
        """Begin to watch a function; return whether it is one that can be."""
        if hook.code is None or id(hook.code) in self._hooks:
            return False
        events = self._monitoring.events
        local = events.PY_START
        self._hooks[id(hook.code)] = hook
        if hook.end is not None or hook.failed is not None:
            local |= events.PY_RETURN
            if not self.too_many_unwinds:
                self._monitoring.set_events(self._tool, events.PY_UNWIND)
        self._monitoring.set_local_events(self._tool, hook.code, local)
        return True

    def remove(self) -> None:
        """Let go of everything, and give the tool's number back."""
        if self._tool < 0:
            return
        events = self._monitoring.events
        self._monitoring.set_events(self._tool, 0)
        for hook in list(self._hooks.values()):
            self._monitoring.set_local_events(self._tool, hook.code, 0)
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
        hook = self._hooks.get(id(code))
        if hook is None:
            return
        try:
            frame = sys._getframe(1)
            values = frame.f_locals.get
            caller = None if hook.frameless else frame.f_back
            token = hook.begin([values(name) for name in hook.names], caller)
            if token is not None:
                hook.tokens[id(frame)] = token
        except Exception as error:  # noqa: BLE001 - it would be raised in the target
            self._account(error)

    def _return(self, code: Any, _offset: int, value: Any) -> None:
        """Run when a function returns."""
        hook = self._hooks.get(id(code))
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
        hook = self._hooks.get(id(code))
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
    depth = 2

    def __init__(self, account: Any) -> None:
        self._account = account
        self._hooks: list[Hook] = []
        self._on = [True]

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
        self._on.clear()
        for hook in self._hooks:
            if vars(hook.owner).get(hook.name) is hook.replaced:
                setattr(hook.owner, hook.name, hook.original)
            hook.replaced = None
        self._hooks.clear()

    def check(self, over_s: float) -> None:
        """Do nothing: only what is watched costs anything."""

    def _wrapper(self, hook: Hook) -> Callable[..., Any]:
        """Return the function that takes the place of another, made for its parameters: nothing is packed up twice."""
        original: Any = hook.original
        code: Any = hook.code
        body = _PLAIN if hook.end is None and hook.failed is None else _WHOLE
        signature, call = ("*args, **named", "*args, **named") if hook.is_decorated else _signature(code)
        known = _parameters(code)
        values = [
            f"_pk_argument(args, named, {known.index(name) if name in known else -1}, {name!r})"
            if hook.is_decorated
            else name if name in known else "None"
            for name in hook.names
        ]  # fmt: skip
        is_async = bool(code.co_flags & _ASYNC) and body is _WHOLE
        source = body.format(
            define="async def" if is_async else "def",
            wait="await " if is_async else "",
            signature=signature,
            values=", ".join(values),
            call=call,
            frame="None" if hook.frameless else "_pk_frame(1)",
        )
        namespace: dict[str, Any] = {"__name__": __name__, "_pk_argument": _argument}
        exec(compile(source, "<perfkit probe>", "exec"), namespace)  # noqa: S102
        wrapper: Any = namespace["make"](
            original, hook.begin, hook.end or _nothing, hook.failed or _nothing, self._on, sys._getframe, self._account
        )
        if not hook.is_decorated:
            wrapper.__defaults__, wrapper.__kwdefaults__ = original.__defaults__, original.__kwdefaults__
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(wrapper, name, getattr(original, name))
        wrapper.__dict__.update(original.__dict__)
        wrapper.__wrapped__ = original
        return wrapper  # type: ignore[no-any-return]


_PLAIN = """
def make(_pk_original, _pk_begin, _pk_end, _pk_failed, _pk_on, _pk_frame, _pk_account):
    def wrapper({signature}):
        if _pk_on:
            try:
                _pk_begin(({values},), {frame})
            except Exception as _pk_error:
                _pk_account(_pk_error)
        return _pk_original({call})
    return wrapper
"""
_WHOLE = """
def make(_pk_original, _pk_begin, _pk_end, _pk_failed, _pk_on, _pk_frame, _pk_account):
    {define} wrapper({signature}):
        _pk_token = None
        if _pk_on:
            try:
                _pk_token = _pk_begin(({values},), {frame})
            except Exception as _pk_error:
                _pk_account(_pk_error)
        if _pk_token is None:
            return {wait}_pk_original({call})
        try:
            _pk_value = {wait}_pk_original({call})
        except BaseException as _pk_raised:
            if _pk_on:
                try:
                    _pk_failed(_pk_token, _pk_raised)
                except Exception as _pk_error:
                    _pk_account(_pk_error)
            raise
        if _pk_on:
            try:
                _pk_end(_pk_token, _pk_value)
            except Exception as _pk_error:
                _pk_account(_pk_error)
        return _pk_value
    return wrapper
"""


def _signature(code: Any) -> tuple[str, str]:
    """Return the parameters of a function as source, and what passes them on; defaults are put in later.

    >>> _signature((lambda a, /, b, *rest, c, **more: 0).__code__)
    ('a, /, b, *rest, c, **more', 'a, b, *rest, c=c, **more')
    """
    names = code.co_varnames
    placed, only_named = code.co_argcount, code.co_kwonlyargcount
    parameters, call = list(names[:placed]), list(names[:placed])
    if code.co_posonlyargcount:
        parameters.insert(code.co_posonlyargcount, "/")
    after = placed + only_named
    if code.co_flags & _REST:
        parameters.append("*" + names[after])
        call.append("*" + names[after])
        after += 1
    elif only_named:
        parameters.append("*")
    for name in names[placed : placed + only_named]:
        parameters.append(name)
        call.append(f"{name}={name}")
    if code.co_flags & _MORE:
        parameters.append("**" + names[after])
        call.append("**" + names[after])
    return ", ".join(parameters), ", ".join(call)


def _argument(args: tuple[Any, ...], named: dict[str, Any], place: int, name: str) -> Any:
    """Return what was given for a parameter, None: nothing."""
    return args[place] if 0 <= place < len(args) else named.get(name)


def _nothing(_token: Any, _value: Any) -> None:
    """Stand for what a hook does not want to know."""


def hooking(account: Any) -> Monitoring | Wrapping:
    """Return the way to watch functions that this interpreter has."""
    if hasattr(sys, "monitoring"):
        try:
            return Monitoring(account)
        except RuntimeError:
            pass
    return Wrapping(account)
