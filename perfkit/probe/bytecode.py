"""Reads what a function does with objects from its bytecode: what it calls, stores, deletes and compares.

One pass over the instructions in their order, with a stack of expressions instead of values; nothing
is run. Sent as source like its neighbours, and used by `container_code`: standard library only.

An expression is a tuple: `("local", name)`, `("global", name)`, `("module", name, level)`, `("const",
value)`, `("attr", of, name)`, `("item", of, key)`, `("call", what, arguments, named)`, `("op", symbol,
left, right)`, `("each", of)` for an element of what is iterated or unpacked, `("tuple", ...)`,
`("slice", from, to)`, `("new", kind, [items])` for a display or comprehension, `("code", code)`; None is
something else. Local variables stand for what was assigned to them last; what is new, or comes from
a call, ends with the list of the variables that it was assigned to.
"""

from __future__ import annotations

import dis
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

MAX_INSTRUCTIONS = 6000
"""Longer functions are not read: they are generated, or tables."""
_MAX_NODES = 200
_MAX_DEPTH = 3
_NULL = ("null",)
_NEW = {"dict": "dict", "list": "list", "set": "set", "deque": "deque", "OrderedDict": "dict", "defaultdict": "dict"}
_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_ABSOLUTE", "JUMP_FORWARD",
                   "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"})  # fmt: skip

_OPERATORS = {
    prefix + name: symbol + ("=" if prefix == "INPLACE_" else "")
    for prefix in ("BINARY_", "INPLACE_")
    for name, symbol in (("ADD", "+"), ("SUBTRACT", "-"), ("MULTIPLY", "*"), ("FLOOR_DIVIDE", "//"), ("MODULO", "%"),
                         ("TRUE_DIVIDE", "/"), ("OR", "|"), ("AND", "&"), ("XOR", "^"), ("POWER", "**"))
}  # fmt: skip
"""Up to 3.10 each operator has an instruction of its own."""


class Effect:
    """One thing that a function does.

    `kind` is call, store, store_item, del_item, test or return. `what` is the function, the
    target, the container or the condition; `args` the arguments, `(value,)`, `(key, value)`,
    `(key,)` or nothing. Of a test, `span` is the part of the code that is skipped when it fails,
    and `jumps_if` what makes it skip. `loops` are what the loops around it go through.
    """

    __slots__ = ("args", "jumps_if", "kind", "line", "loops", "named", "offset", "span", "what")

    def __init__(self, kind: str, offset: int, line: int, what: Any, args: tuple[Any, ...] = ()) -> None:
        self.kind, self.offset, self.line, self.what, self.args = kind, offset, line, what, args
        self.named: dict[str, Any] = {}
        self.loops: tuple[Any, ...] = ()
        self.span = (0, 0)
        self.jumps_if: bool | None = None


def read(code: CodeType, known: dict[str, Any]) -> Reader:
    """Return what a function does; `known` says what the variables of the functions around it stand for."""
    reader = Reader(code, {name: known[name] for name in code.co_freevars if name in known}, 0)
    reader.read()
    return reader


def nodes(expression: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the expressions within an expression, itself first, the first 200 of them."""
    waiting, seen = [expression], 0
    while waiting and seen < _MAX_NODES:
        each = waiting.pop()
        if type(each) is tuple:
            if each and type(each[0]) is str and each[0] != "const":
                seen += 1
                yield each
                waiting += [part for part in each[:0:-1] if type(part) in (tuple, list)]
            elif each and each[0] == "const":
                seen += 1
                yield each
            else:
                waiting += each[::-1]
        elif type(each) is list:
            waiting += each[:8]


def name_of(expression: Any) -> str | None:
    """Return the last name of an expression that is a name or an attribute."""
    return expression[-1] if expression and expression[0] in ("global", "attr", "local") else None


class Reader:
    """Goes through the instructions of one code object.

    `effects` is what it does, in the order of the code; `lookups` what it looks up by key or index;
    `exits` the offsets at which it raises or returns, `raises` those at which it raises; `result`
    what it returns or yields; `known` what its variables stand for at the end.
    """

    def __init__(self, code: CodeType, known: dict[str, Any], depth: int) -> None:
        self.effects: list[Effect] = []
        self.lookups: list[Effect] = []
        self.exits: set[int] = set()
        self.raises: set[int] = set()
        self.result: list[Any] = []
        self._code = code
        self.known = known
        self._depth = depth
        self._stack: list[Any] = []
        self._states: dict[int, list[Any]] = {}
        self._loops: list[tuple[int, Any]] = []
        self._names: tuple[str, ...] = ()
        self._offset = self._line = 0
        first = code.co_varnames[:1] if code.co_argcount else ()
        self._self: Any = ("local", *first) if first else None

    def read(self) -> None:
        """Fill in `effects`, `exits` and `result`, the expressions returned or yielded."""
        if len(self._code.co_code) > 2 * MAX_INSTRUCTIONS:
            return
        lines = {start: line for start, _end, line in self._code.co_lines() if line is not None}
        is_dead = False
        for instruction in dis.get_instructions(self._code):
            offset = self._offset = instruction.offset
            self._line = lines.get(offset, self._line)
            while self._loops and offset >= self._loops[-1][0]:
                self._loops.pop()
            if is_dead:
                self._stack = self._states.get(offset, [])[:]
            is_dead = False
            name = instruction.opname
            step = getattr(self, "_" + name.lower(), None)
            if step is not None:
                step(instruction.argval, instruction.arg or 0)
            elif name.startswith(("POP_JUMP", "JUMP_IF")):
                self._jump_if(name, instruction.argval)
            elif name in _OPERATORS:
                self._operate(_OPERATORS[name])
            else:
                self._otherwise(instruction)
            if name in _ENDS:
                is_dead = True
                if "JUMP" not in name:
                    self.exits.add(offset)
                    if name == "RAISE_VARARGS":
                        self.raises.add(offset)
                elif instruction.argval > offset:
                    self._states.setdefault(instruction.argval, self._stack[:])

    # The stack.

    def _pop(self, count: int = 1) -> list[Any]:
        """Take the topmost expressions off, deepest first; what is missing is unknown."""
        taken = self._stack[-count:] if count else []
        if count:
            del self._stack[-count:]
        return [None] * (count - len(taken)) + taken

    def _push(self, *expressions: Any) -> None:
        self._stack += expressions

    def _otherwise(self, instruction: Any) -> None:
        """Do what keeps the stack's height right for an instruction that means nothing here."""
        needs = instruction.opcode >= dis.HAVE_ARGUMENT or instruction.arg is not None
        change = dis.stack_effect(instruction.opcode, instruction.arg if needs else None, jump=False)
        if change > 0:
            self._push(*[None] * change)
        elif change < 0:
            self._pop(-change)
            if self._stack and not instruction.opname.startswith(("POP_", "DELETE_", "END_", "STORE_")):
                self._stack[-1] = None

    def _note(self, kind: str, what: Any, *args: Any) -> Effect:
        """Note an effect at this instruction."""
        effect = self._effect(kind, what, *args)
        self.effects.append(effect)
        return effect

    def _effect(self, kind: str, what: Any, *args: Any) -> Effect:
        """Return an effect of this instruction."""
        effect = Effect(kind, self._offset, self._line, what, args)
        effect.loops = tuple(iterable for _end, iterable in self._loops)
        return effect

    # Names.

    def _load(self, name: str) -> None:
        self._push(self.known.get(name, ("local", name)))

    def _store(self, name: str, value: Any) -> None:
        self._note("store", ("local", name), value)
        if value is not None and value[0] in ("new", "call"):
            value[-1].append(name)
        if value != ("const", None) or name not in self.known:
            self.known[name] = value if value is not None else ("local", name)

    def _load_fast(self, name: Any, _arg: int) -> None:
        for each in name if type(name) is tuple else (name,):
            self._load(each)

    _load_deref = _load_fast_check = _load_fast_load_fast = _load_fast_borrow = _load_fast
    _load_fast_borrow_load_fast_borrow = _load_classderef = _load_fast

    def _load_fast_and_clear(self, name: str, _arg: int) -> None:
        self._load(name)

    def _store_fast(self, name: Any, _arg: int) -> None:
        for each in name if type(name) is tuple else (name,):
            self._store(each, *self._pop())

    _store_deref = _store_fast_store_fast = _store_fast

    def _store_fast_load_fast(self, names: tuple[str, str], _arg: int) -> None:
        self._store(names[0], *self._pop())
        self._load(names[1])

    def _load_global(self, name: str, arg: int) -> None:
        if sys.version_info >= (3, 11) and arg & 1:
            self._push(_NULL)
        self._push(("global", name))

    def _load_name(self, name: str, _arg: int) -> None:
        self._push(("global", name))

    def _store_global(self, name: str, _arg: int) -> None:
        self._note("store", ("global", name), *self._pop())

    _store_name = _store_global

    def _load_const(self, value: Any, _arg: int) -> None:
        self._push(("const", value))

    _load_small_int = _load_const

    def _import_name(self, name: str, _arg: int) -> None:
        level, only = self._pop(2)
        is_whole = only == ("const", None)
        self._push(("module", name.partition(".")[0] if is_whole else name, level[1] if level else 0))

    def _import_from(self, name: str, _arg: int) -> None:
        self._push(("attr", self._stack[-1] if self._stack else None, name))

    # Attributes and items.

    def _attribute(self, of: Any, name: str) -> Any:
        if of is not None and of[0] == "call" and of[1] == ("global", "super"):
            of = self._self
        return ("attr", of, name)

    def _load_attr(self, name: str, arg: int) -> None:
        [of] = self._pop()
        self._push(self._attribute(of, name))
        if sys.version_info >= (3, 12) and arg & 1:
            self._push(_NULL)

    def _load_method(self, name: str, _arg: int) -> None:
        [of] = self._pop()
        self._push(self._attribute(of, name), _NULL)

    def _load_super_attr(self, name: str, arg: int) -> None:
        self._pop(3)
        self._push(("attr", self._self, name))
        if arg & 1:
            self._push(_NULL)

    _load_super_method = _load_super_attr

    def _store_attr(self, name: str, _arg: int) -> None:
        value, of = self._pop(2)
        self._note("store", ("attr", of, name), value)

    def _binary_subscr(self, _value: Any, _arg: int) -> None:
        of, key = self._pop(2)
        self._push(("item", of, key))
        self.lookups.append(self._effect("lookup", of, key))

    def _store_subscr(self, _value: Any, _arg: int) -> None:
        value, of, key = self._pop(3)
        self._note("store_item", of, key, value)

    def _delete_subscr(self, _value: Any, _arg: int) -> None:
        of, key = self._pop(2)
        self._note("del_item", of, key)

    def _build_slice(self, _value: Any, arg: int) -> None:
        self._push(("slice", *self._pop(arg)[:2]))

    def _binary_slice(self, _value: Any, _arg: int) -> None:
        of, first, last = self._pop(3)
        self._push(("item", of, ("slice", first, last)))

    def _store_slice(self, _value: Any, _arg: int) -> None:
        value, of, first, last = self._pop(4)
        self._note("store_item", of, ("slice", first, last), value)

    # Displays, comprehensions, loops.

    def _build_list(self, _value: Any, arg: int) -> None:
        self._push(("new", "list", self._pop(arg), []))

    def _build_set(self, _value: Any, arg: int) -> None:
        self._push(("new", "set", self._pop(arg), []))

    def _build_map(self, _value: Any, arg: int) -> None:
        self._push(("new", "dict", self._pop(2 * arg), []))

    def _build_tuple(self, _value: Any, arg: int) -> None:
        self._push(("tuple", *self._pop(arg)))

    def _add_to(self, distance: int, *items: Any) -> None:
        if len(self._stack) >= distance > 0 and (into := self._stack[-distance]) and into[0] == "new":
            into[2].extend(items)

    def _list_append(self, _value: Any, arg: int) -> None:
        self._add_to(arg, *self._pop())

    _set_add = _list_extend = _set_update = _dict_update = _dict_merge = _list_append

    def _map_add(self, _value: Any, arg: int) -> None:
        self._add_to(arg, *self._pop(2))

    def _unpack_sequence(self, _value: Any, arg: int) -> None:
        [whole] = self._pop()
        is_known = whole is not None and whole[0] == "tuple" and len(whole) == arg + 1
        self._push(*(whole[:0:-1] if is_known else [("each", whole)] * arg))

    def _get_iter(self, _value: Any, _arg: int) -> None:
        """Keep what is iterated."""

    _get_aiter = _get_iter

    def _get_anext(self, _value: Any, _arg: int) -> None:
        self._push(("each", self._stack[-1] if self._stack else None))

    def _for_iter(self, target: int, _arg: int) -> None:
        iterable = self._stack[-1] if self._stack else None
        # Up to 3.11 the iterator is gone at the end of the loop; later END_FOR takes it and an element.
        is_taken = sys.version_info < (3, 12)
        self._states.setdefault(target, self._stack[:-1] if is_taken else [*self._stack, None])
        self._loops.append((target, iterable))
        self._push(("each", iterable))

    def _end_for(self, _value: Any, _arg: int) -> None:
        self._pop(2 if sys.version_info < (3, 13) else 1)

    def _end_send(self, _value: Any, _arg: int) -> None:
        self._pop()

    _yield_from = _end_send

    def _send(self, target: int, _arg: int) -> None:
        self._states.setdefault(target, self._stack[:-1] if sys.version_info < (3, 12) else self._stack[:])

    def _yield_value(self, _value: Any, _arg: int) -> None:
        self.result += self._pop()
        self._push(None)

    def _return_value(self, _value: Any, _arg: int) -> None:
        [value] = self._pop()
        self.result.append(value)
        self._note("return", value)

    def _return_const(self, value: Any, _arg: int) -> None:
        self._note("return", ("const", value))

    def _return_generator(self, _value: Any, _arg: int) -> None:
        self._push(None)

    def _make_function(self, _value: Any, arg: int) -> None:
        if sys.version_info < (3, 11):  # noqa: UP036 - targets may be
            self._pop()
        [code] = self._pop()
        if sys.version_info < (3, 13):
            self._pop(bin(arg).count("1"))  # noqa: FURB161 - by 3.10 too
        self._push(("code", code[1]) if code and code[0] == "const" else None)

    def _set_function_attribute(self, _value: Any, _arg: int) -> None:
        _attribute, function = self._pop(2)
        self._push(function)

    # Shuffling.

    def _copy(self, _value: Any, arg: int) -> None:
        self._push(self._stack[-arg] if len(self._stack) >= arg else None)

    def _dup_top(self, _value: Any, _arg: int) -> None:
        self._copy(None, 1)

    def _dup_top_two(self, _value: Any, _arg: int) -> None:
        self._push(*(self._pop(2) * 2))

    def _swap(self, _value: Any, arg: int) -> None:
        if len(self._stack) >= arg:
            self._stack[-arg], self._stack[-1] = self._stack[-1], self._stack[-arg]

    def _rotate(self, count: int) -> None:
        taken = self._pop(count)
        self._push(taken[-1], *taken[:-1])

    def _rot_two(self, _value: Any, _arg: int) -> None:
        self._rotate(2)

    def _rot_three(self, _value: Any, _arg: int) -> None:
        self._rotate(3)

    def _rot_four(self, _value: Any, _arg: int) -> None:
        self._rotate(4)

    def _rot_n(self, _value: Any, arg: int) -> None:
        self._rotate(arg)

    # Operators and conditions.

    def _operate(self, symbol: str) -> None:
        left, right = self._pop(2)
        self._push(("op", symbol, left, right))

    def _binary_op(self, _value: Any, arg: int) -> None:
        symbol = dis._nb_ops[arg][1]  # type: ignore[attr-defined]
        if symbol == "[]":  # 3.14
            self._binary_subscr(None, 0)
        else:
            self._operate(symbol)

    def _compare_op(self, symbol: str, _arg: int) -> None:
        self._operate(symbol.removeprefix("bool(").rstrip(")"))

    def _contains_op(self, _value: Any, _arg: int) -> None:
        self._operate("in")

    def _is_op(self, _value: Any, _arg: int) -> None:
        self._operate("is")

    def _to_bool(self, _value: Any, _arg: int) -> None:
        """Keep what is tested."""

    def _unary_negative(self, _value: Any, _arg: int) -> None:
        self._push(("op", "-", ("const", 0), *self._pop()))

    def _unary_not(self, _value: Any, _arg: int) -> None:
        self._push(("op", "not", *self._pop(), None))

    def _jump_if(self, name: str, target: int) -> None:
        """Note a condition; code between here and the target is skipped when it fails."""
        [condition] = self._pop()
        effect = self._note("test", condition)
        effect.span = (self._offset + 1, target)
        effect.jumps_if = name.endswith(("TRUE", "TRUE_OR_POP", "NOT_NONE"))
        if target > self._offset:
            kept = [condition] if name.endswith("_OR_POP") else []
            self._states.setdefault(target, self._stack + kept)

    # Calls.

    def _called(self, what: Any, arguments: list[Any], named: dict[str, Any]) -> None:
        """Note a call and push its result."""
        effect = self._note("call", what, *arguments)
        effect.named = named
        self._push(self._value_of(what, arguments, named))

    def _value_of(self, what: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Return the expression of a call, looking through what makes or fills a container of its own."""
        name = name_of(what)
        if what and what[0] == "code":
            return self._inline(what[1], arguments)
        if name in _NEW and len(arguments) <= (2 if name in ("defaultdict", "deque") else 1):
            return ("new", _NEW[name], [("each", each) for each in arguments], [])
        if what and what[0] == "attr" and what[1] and what[1][0] == "new" and name in ("append", "add", "extend"):
            what[1][2].extend(arguments)
        return ("call", what, tuple(arguments), tuple(named.items()), [])

    def _inline(self, code: CodeType, arguments: list[Any]) -> Any:
        """Return what a comprehension gives, which is a function of its own up to 3.11."""
        if self._depth >= _MAX_DEPTH or not code.co_name.startswith("<"):
            return None
        inner = Reader(code, {**self.known, **dict(zip(code.co_varnames, arguments))}, self._depth + 1)  # noqa: B905
        inner.read()
        for effect in inner.effects:
            if effect.kind != "return":
                effect.offset, effect.span = self._offset, (0, 0)
                effect.loops = (*(iterable for _end, iterable in self._loops), *effect.loops)
                self.effects.append(effect)
        if len(inner.result) == 1 and inner.result[0] and inner.result[0][0] == "new":
            return inner.result[0]
        return ("new", "generator", inner.result, [])

    def _positional(self, count: int, names: tuple[str, ...] = ()) -> None:
        """Call what lies below its arguments and one more place, on either side of which there is NULL."""
        arguments = self._pop(count)
        first, second = self._pop(2)
        if first == _NULL:
            what = second
        else:
            what = first
            if second != _NULL:
                arguments.insert(0, second)
        split = len(arguments) - len(names)
        self._called(what, arguments[:split], dict(zip(names, arguments[split:])))  # noqa: B905

    def _call(self, _value: Any, arg: int) -> None:
        names, self._names = self._names, ()
        self._positional(arg, names)

    _call_method = _call

    def _kw_names(self, names: Any, arg: int) -> None:
        self._names = names if type(names) is tuple else self._code.co_consts[arg]

    def _precall(self, _value: Any, _arg: int) -> None:
        """Do nothing: CALL does (3.11)."""

    def _push_null(self, _value: Any, _arg: int) -> None:
        self._push(_NULL)

    def _call_kw(self, _value: Any, arg: int) -> None:
        [names] = self._pop()
        self._positional(arg, names[1] if names and names[0] == "const" else ())

    def _call_function(self, _value: Any, arg: int) -> None:
        arguments = self._pop(arg)
        self._called(self._pop()[0], arguments, {})

    def _call_function_kw(self, _value: Any, arg: int) -> None:
        [names] = self._pop()
        arguments = self._pop(arg)
        known = names[1] if names and names[0] == "const" else ()
        split = arg - len(known)
        self._called(self._pop()[0], arguments[:split], dict(zip(known, arguments[split:])))  # noqa: B905

    def _call_function_ex(self, _value: Any, arg: int) -> None:
        if arg & 1 or sys.version_info >= (3, 14):
            self._pop()
        [arguments] = self._pop()
        pair = self._pop(2) if sys.version_info >= (3, 11) else self._pop()
        what = next((each for each in pair if each not in (_NULL, None)), None)
        self._called(what, [("each", arguments)], {})
