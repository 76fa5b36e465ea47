"""Looks in the target's functions for what puts items into a container, takes them out, and how far it may grow.

A growing container is a leak or a cache on its way to a limit; one recording of its length cannot
tell, but the program says so itself: `if len(self._entries) > self.max_entries: popitem()`. Only
bytecode is read, nothing of the target is run: attributes are looked up in the dictionaries and
slots of objects and types. Sent as source, in one piece with the modules it imports, and run by
`census` at its end.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import defaultdict
from itertools import chain
from types import CodeType, FunctionType

from perfkit.probe.bytecode import Effect, name_of, nodes
from perfkit.probe.code_match import (
    LESS,
    MORE,
    Match,
    Wanted,
    comparisons,
    effects_of,
    is_like,
    is_timely,
    note_aliases,
    timely,
)
from perfkit.probe.code_objects import (
    CREATING,
    Function,
    derives,
    getters,
    has,
    has_run,
    is_class,
    is_library_file,
    is_of_library,
    member,
    members,
    mro,
    names_in,
    plain,
    static,
    type_name_of,
)
from perfkit.probe.names import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SLICE_NS = 4_000_000
_PAUSE_S = 0.006
_PART = 8192
_MAX_PER_CONTAINER = 200
_MAX_ROWS = 40
_SHORTEST_S = 1e-3
_ROUNDS = 3

_INSERTING = frozenset({"append", "appendleft", "add", "insert", "setdefault", "update", "extend", "extendleft",
                        "__setitem__", "put", "put_nowait", "_put"})  # fmt: skip
_BY_KEY = frozenset({"pop", "discard", "remove", "__delitem__", "difference_update", "intersection_update"})
_ANY = frozenset({"popitem", "popleft", "clear", "get_nowait", "_get"})
_PUSHING = frozenset({"heappush", "insort", "insort_left", "insort_right"})
_LATER = frozenset({"call_later", "call_at", "Timer", "enter", "enterabs"})
_PICKING = frozenset({"next", "min", "max", "choice", "sample", "nsmallest", "nlargest", "sorted"})
_COUNTS = ("size", "count", "len", "total", "num", "used", "weight", "bytes", "items", "entries")
_LIMITS = ("max", "limit", "cap", "bound", "most", "quota")
_NOT_ITEMS = ("bytes", "weight", "mem", "size", "cost")
_INLINE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


class Look:
    """Finds the code that deals with some containers.

    After `run` is through: `rows`, and `note`, what was left out.
    """

    def __init__(self, budget_ns: int, variables: dict[int, list[tuple[int, str]]]) -> None:
        self._budget_ns = budget_ns
        self._named_by = variables
        self._functions: list[Function] = []
        self._index: dict[str, list[Function]] = {}
        self._variables: dict[str, list[Function]] = {}
        self._by_code: dict[int, Function] = {}
        self.rows: list[dict[str, Any]] = []
        self.note: str | None = None

    def run(self, wanted: list[Wanted]) -> Iterator[float]:
        """Look, a slice at a time; yields how long to pause."""
        began_ns = slice_ns = time.thread_time_ns()
        yield from self._list_functions()
        readings = [(Reading(each, self), self._outside(each)) for each in wanted]
        named = [reading.wanted for pair in readings for reading in pair if reading is not None]
        for each in named:
            each.locals.update(self._named_by.get(id(each.named), ()) if each.is_named else ())
        for _step in chain(self._list_inner(), self._note_methods(named), note_aliases(named), self._steps(readings)):
            now_ns = time.thread_time_ns()
            if now_ns - began_ns > self._budget_ns:
                self.note = "not all code that may deal with the growing containers was read"
                break
            if now_ns - slice_ns > _SLICE_NS:
                yield _PAUSE_S
                slice_ns = time.thread_time_ns()
        for reading, outside in readings:
            reading.note_cached_function()
            rows, calls = reading.rows(), outside.calls() if outside is not None else []
            # Who calls `put` says more than the line within it.
            self.rows += [*calls, *(row for row in rows if not calls or row["role"] != "inserts")]
        self._functions.clear()
        self._index.clear()
        self._variables.clear()
        self._by_code.clear()
        self._named_by.clear()

    def _outside(self, wanted: Wanted) -> Reading | None:
        """Return a reading of what has the container as an attribute, where that is of the standard library."""
        if wanted.depth or not wanted.attributes or is_class(wanted.owner) or not is_of_library(wanted.owner):
            return None
        return Reading(Wanted(wanted.identity, wanted.path[:-1]), self)

    def _steps(self, readings: list[tuple[Reading, Reading | None]]) -> Iterator[None]:
        """Read the code, a function at a time."""
        all_of_them = [reading for pair in readings for reading in pair if reading is not None]
        for _round in range(_ROUNDS):
            names = (each.wanted.names | each.wanted.measures for each in all_of_them)
            variables = (each.wanted.free for each in all_of_them)
            yield from self._find(set().union(*names), set().union(*variables))
            for reading in all_of_them:
                yield from reading.learn()
        for reading, outside in readings:
            yield from reading.conclude()
            if outside is not None:
                outside.inserting = _INSERTING | reading.inserting_methods()
                yield from outside.conclude()

    def _find(self, names: set[str], variables: set[str]) -> Iterator[None]:
        """Note which functions mention names that were not asked for yet."""
        names = names - self._index.keys()
        variables = variables - self._variables.keys()
        self._index |= {name: [] for name in names}
        self._variables |= {name: [] for name in variables}
        for count, function in enumerate(self._functions if names or variables else ()):
            code = function.code
            if not names.isdisjoint(code.co_names):
                for name in names.intersection(code.co_names):
                    self._index[name].append(function)
            if variables:
                for name in variables.intersection(code.co_varnames + code.co_freevars + code.co_cellvars):
                    self._variables[name].append(function)
            if not count % 256:
                yield

    def mentions(self, wanted: Wanted) -> list[Function]:
        """Return the functions that mention a container, as far as its names were asked for."""
        found: dict[int, Function] = {}
        named = [self._index.get(name, []) for name in (*wanted.names, *wanted.measures)]
        for each in chain(*named, *(self._variables.get(name, []) for name in wanted.free)):
            found.setdefault(id(each.code), each)
        for number in wanted.codes:
            if number in self._by_code:
                found.setdefault(number, self._by_code[number])
        return list(found.values())

    def _list_functions(self) -> Iterator[float]:
        """List the target's functions, and what is being run."""
        kind = FunctionType
        seen = self._by_code
        objects = gc.get_objects()
        while objects:
            part = [each for each in objects[-_PART:] if type(each) is kind]
            del objects[-_PART:]
            for each in part:
                code = each.__code__
                # Closures made many times have one code; the first will do.
                if id(code) not in seen and not is_ours(each.__globals__):
                    seen[id(code)] = Function(code, each.__globals__, each.__qualname__, each, None)
            part.clear()
            yield _PAUSE_S
        for frame in list(sys._current_frames().values()):
            each_frame: Any = frame
            while each_frame is not None:
                code, namespace = each_frame.f_code, each_frame.f_globals
                if id(code) not in seen and not is_ours(namespace):
                    seen[id(code)] = Function(code, namespace, code.co_name, None, None)
                each_frame = each_frame.f_back
        self._functions = list(seen.values())

    def _note_methods(self, wanted: list[Wanted]) -> Iterator[None]:
        """Note the classes of the owners' methods, which their names tell only of classes of modules."""
        for each in wanted:
            for owner in (each.owner, each.container):
                for base in mro(owner if is_class(owner) else type(owner)):
                    for value in members(base, inherited=False):
                        for method in (plain(value), *getters(value)):
                            known = self._by_code.get(id(method.__code__)) if type(method) is FunctionType else None
                            if known is not None:
                                known.owner = base
            yield

    def _list_inner(self) -> Iterator[None]:
        """List the functions within functions."""
        seen = self._by_code
        for count, function in enumerate(self._functions):
            if not count % 256:
                yield
            for constant in function.code.co_consts:
                # Comprehensions and generator expressions are read where they are.
                if type(constant) is CodeType and id(constant) not in seen:
                    name = f"{function.name}.<locals>.{constant.co_name}"
                    inner = seen[id(constant)] = Function(constant, function.namespace, name, None, function)
                    if constant.co_name not in _INLINE:
                        self._functions.append(inner)


class Reading:
    """What the code says of one container."""

    def __init__(self, wanted: Wanted, look: Look) -> None:
        self.wanted = self._wanted = wanted
        self._look = look
        self._found: dict[tuple[str, str, str, int], dict[str, Any]] = {}
        self._done: dict[int, Function] = {}
        self.insert_ttl: float | None = None
        self.inserting = _INSERTING
        """Names of methods that put something in."""
        self._others: set[str] = set()

    def learn(self) -> Iterator[None]:
        """Read the functions that mention the container for the first time, for further names of it."""
        mentions = [each for each in self._look.mentions(self._wanted) if id(each.code) not in self._done]
        mentions = [each for each in mentions if self._is_relevant(each)]
        mentions.sort(key=lambda each: not self._is_method(each))
        for function in mentions[: _MAX_PER_CONTAINER - len(self._done)]:
            self._done[id(function.code)] = function
            self._learn(function)
            yield

    def conclude(self) -> Iterator[None]:
        """Read all of them for what they say."""
        for function in self._done.values():
            Sentence(self, self._wanted, function).read()
            yield
        if issubclass(type(self._wanted.container), defaultdict) and not any(
            key[0] == "inserts" for key in self._found
        ):
            # To look for a key that is not there puts it in, which is all that does.
            for function in self._done.values():
                Sentence(self, self._wanted, function).read(are_lookups_inserts=True)
                yield

    def _is_relevant(self, function: Function) -> bool:
        """Whether a function mentions more than a name that says nothing outside of the owner's class."""
        code, wanted = function.code, self._wanted
        if wanted.measures.isdisjoint(code.co_names) or not wanted.names.isdisjoint(names_in(code)):
            return True
        return id(code) in wanted.codes or self._is_method(function)

    def _is_method(self, function: Function) -> bool:
        """Whether it is a method of a class that has the container."""
        class_ = function.class_()
        if class_ is None:
            return False
        if self._wanted.subclass is not None and derives(self._wanted.subclass, class_):
            return True
        return any(has(class_, *each) for each in self._wanted.attributes.values())

    def _learn(self, function: Function) -> None:
        """Note further names: parameters it is passed as, attributes it is kept in, functions that return it."""
        match = Match(self._wanted, function)
        wanted = self._wanted
        reader = effects_of(function)
        for effect in reader.effects:
            if effect.kind == "store" and effect.what[0] == "attr" and effect.what[1] is not None:
                if wanted.depth == 0 and effect.args[0] and match.level(effect.args[0]) == 0:
                    owner = function.class_()
                    if effect.what[1] == ("local", function.first) and owner is not None:
                        wanted.attributes.setdefault(effect.what[2], (owner, False))
            elif effect.kind == "call" and wanted.depth == 0:
                callee = match.resolve(effect.what)
                offset = 0
                if is_class(callee):
                    callee, offset = member(callee, "__init__"), 1
                elif effect.what and effect.what[0] == "attr" and type(match.resolve(effect.what[1])) is not type(gc):
                    offset = 1
                if type(callee) is FunctionType:
                    names = callee.__code__.co_varnames
                    passed = [*enumerate(effect.args, offset)]
                    for number, argument in passed:
                        if number < callee.__code__.co_argcount and match.level(argument) == 0:
                            wanted.locals.add((id(callee.__code__), names[number]))
                    for name, argument in effect.named.items():
                        if name in names and match.level(argument) == 0:
                            wanted.locals.add((id(callee.__code__), name))
            elif effect.kind == "return" and function.code.co_name not in CREATING:
                if wanted.depth == 0 and match.level(effect.what) == 0 and len(reader.effects) < 40:
                    wanted.accessors.add(function.code.co_name)
                elif match.is_length(effect.what) and function.code.co_name != "<lambda>":
                    wanted.measures.add(function.code.co_name)
                elif effect.what and effect.what[0] == "op" and effect.what[1] in LESS | MORE:
                    is_left, is_right = map(match.is_length, effect.what[2:4])
                    if is_left != is_right:
                        is_too_many = (effect.what[1] in MORE) == is_left
                        limit = match.number(effect.what[3] if is_left else effect.what[2])
                        wanted.predicates[function.code.co_name] = is_too_many, limit

    def add(self, role: str, function: Function, effect: Effect, is_sure: bool, **more: Any) -> None:
        """Note that a line plays a role."""
        key = role, function.name, function.code.co_filename, effect.line
        ran = has_run(function.code, effect.offset)
        row = self._found.setdefault(key, {"role": role, "function": function.name, "file": key[2], "line": key[3],
                                           "limit_items": None, "ttl_s": None, "same_class": False,
                                           "has_run": ran})  # fmt: skip
        row["same_class"] = row["same_class"] or is_sure
        # A line may be there several times, as those of `finally` are.
        if ran or row["has_run"] is False:
            row["has_run"] = ran
        for name, value in more.items():
            if row[name] is None:
                row[name] = value

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per role and line, sure ones first; nothing by mere name that other classes have too."""
        rows = [*self._found.values()]
        for row in rows:
            if row["role"] == "expires" and row["ttl_s"] is None:
                row["ttl_s"] = self.insert_ttl
        if self._others:
            rows = [row for row in rows if row["same_class"]]
        rows.sort(key=lambda row: (not row["same_class"], row["file"], row["line"]))
        return [{"id": self._wanted.identity, **row} for row in rows[:_MAX_ROWS]]

    def note_cached_function(self) -> None:
        """Note the function whose results the container keeps, where it is the cache of one."""
        cached = self.wanted.container
        if type_name_of(cached) == "functools._lru_cache_wrapper":
            function = static(cached, "__wrapped__")
            if type(function) is FunctionType:
                code = function.__code__
                called = Function(code, function.__globals__, function.__qualname__, function, None)
                self.add("inserts", called, Effect("call", 0, code.co_firstlineno, None), True)

    def inserting_methods(self) -> frozenset[str]:
        """Return the methods of the owner's class that put something into the container, or call one that does."""
        found = {row["function"].rpartition(".")[2] for row in self.rows() if row["role"] == "inserts"}
        methods = [each for each in map(plain, members(type(self.wanted.owner))) if type(each) is FunctionType]
        for _round in range(2):
            found |= {each.__name__ for each in methods if not found.isdisjoint(each.__code__.co_names)}
        return frozenset(found) - {"__init__"}

    def calls(self) -> list[dict[str, Any]]:
        """Return the rows of lines outside of the standard library that put something in."""
        return [row for row in self.rows() if row["role"] == "inserts" and not is_library_file(row["file"])]

    def is_another_s(self, function: Function) -> None:
        """Note that another class has an attribute of that name."""
        self._others.add(function.name)


class Sentence:
    """What one function says of the container."""

    def __init__(self, reading: Reading, wanted: Wanted, function: Function) -> None:
        self._reading, self._wanted, self._function = reading, wanted, function
        self._match = Match(wanted, function)
        self._reader = effects_of(function)
        self._inserts: list[Any] = []
        self._removals: list[tuple[Any, bool, Any, bool]] = []
        self._is_bound = False
        self._sure = False

    def read(self, *, are_lookups_inserts: bool = False) -> None:
        """Note what each of its effects means."""
        for effect in self._reader.effects:
            getattr(self, "_" + effect.kind)(effect)
        for effect in self._reader.lookups if are_lookups_inserts else ():
            if self._level(effect.what) == self._wanted.depth:
                self._insert(effect)
        if self._removals or self._inserts or not self._wanted.measures.isdisjoint(self._function.code.co_names):
            self._bounds()
            self._take_out()
        if self._match.is_other and not (self._inserts or self._removals):
            self._reading.is_another_s(self._function)

    def _level(self, expression: Any) -> int | None:
        self._match.is_sure = False
        level = self._match.level(expression)
        self._sure = self._match.is_sure
        return level

    def _insert(self, effect: Any) -> None:
        self._inserts.append(effect)
        for each in nodes(effect.args):
            if each[0] == "op" and each[1] == "+" and is_timely(each):
                self._reading.insert_ttl = self._reading.insert_ttl or self._ttl(each[2:4])
        self._reading.add("inserts", self._function, effect, self._sure)

    def _remove(self, effect: Any, key: Any, *, is_any: bool = False) -> None:
        """Note a removal; `key` is what it is found by, if it is."""
        if key is not None and key[0] == "const" and not is_any:
            return  # one and the same each time: that limits nothing
        self._removals.append((effect, is_any, key, self._sure))

    def _call(self, effect: Any) -> None:
        what, args, depth = effect.what, effect.args, self._wanted.depth
        self._callbacks(effect)
        if not what:
            return
        name = name_of(what)
        if what[0] == "attr":
            level = self._level(what[1])
            # dict.__setitem__(self, key, value), OrderedDict.popitem(self)
            if level is None and args and is_class(self._match.resolve(what[1])):
                level, args = self._level(args[0]), args[1:]
            if level is not None:
                self._method(effect, str(name), args, level)
                return
        if name in _PUSHING and args and self._level(args[0]) == depth:
            self._insert(effect)
        elif name == "heappop" and args and self._level(args[0]) == depth:
            self._remove(effect, None, is_any=True)

    def _method(self, effect: Any, name: str, args: tuple[Any, ...], level: int) -> None:
        """Note a call of a method of the container, or of what it is in."""
        depth = self._wanted.depth
        is_new = self._wanted.is_default and level == depth + 1 and effect.what[1][0] == "item"
        if name in self._reading.inserting and (level == depth or is_new):
            self._insert(effect)
        elif level > depth:
            return
        elif name in _ANY or (name == "get" and self._wanted.is_queue) or (name == "pop" and not args):
            self._remove(effect, None, is_any=True)
        elif name in _BY_KEY and args:
            is_index = self._is_list() and level == depth and name == "pop"
            self._remove(effect, args[0], is_any=is_index)

    def _is_list(self) -> bool:
        return issubclass(type(self._wanted.container), (list, bytearray))

    def _callbacks(self, effect: Any) -> None:
        """Note methods of the container that are handed on to be called later."""
        for argument in (*effect.args, *effect.named.values()):
            if type(argument) is not tuple or argument[:1] != ("attr",) or self._level(argument[1]) is None:
                continue
            if argument[2] in _INSERTING and self._level(argument[1]) == self._wanted.depth:
                self._insert(effect)
            elif argument[2] in _BY_KEY | _ANY:
                later = name_of(effect.what) in _LATER
                if later and effect.args:
                    ttl = self._match.number(effect.args[0])
                    self._reading.add("expires", self._function, effect, self._sure, ttl_s=ttl)
                role = "evicts" if argument[2] in _ANY else "removes"
                self._reading.add(role, self._function, effect, self._sure)

    def _store_item(self, effect: Any) -> None:
        level, depth = self._level(effect.what), self._wanted.depth
        key, _value = effect.args
        is_slice = bool(key) and key[0] == "slice"
        if level == depth and is_slice:
            self._remove(effect, None, is_any=True)
        elif level == depth and not self._is_list():
            self._insert(effect)

    def _del_item(self, effect: Any) -> None:
        level, depth = self._level(effect.what), self._wanted.depth
        if level is not None and level <= depth:
            self._remove(effect, effect.args[0], is_any=self._is_list() and level == depth)
            self._cut(effect, effect.args[0])

    def _store(self, effect: Any) -> None:
        """Note what is bound to the container's name: something new, or a part of it."""
        target, [value] = effect.what, effect.args
        if not value or self._wanted.depth or self._wanted.subclass is not None or self._level(target) != 0:
            return
        if target[0] == "local" and self._is_first(target):
            return
        is_sure = self._sure
        if value[0] == "op" and value[1].rstrip("=") in ("+", "|") and self._level(value[2]) == 0:
            self._sure = is_sure
            self._insert(effect)
        elif value[0] == "item" and value[2] and value[2][0] == "slice" and self._level(value[1]) == 0:
            self._sure = is_sure
            self._remove(effect, None, is_any=True)
            self._cut(effect, value[2])
        elif value[0] == "new" and not self._function.is_creating:
            is_less = not value[2] or self._match.is_within(tuple(value[2][:8]))
            self._sure = is_sure
            if is_less:
                self._remove(effect, None, is_any=True)

    def _is_first(self, target: Any) -> bool:
        """Whether a local variable gets its only value."""
        stores = [each for each in self._reader.effects if each.kind == "store" and each.what == target]
        return len(stores) < 2

    def _cut(self, effect: Any, part: Any) -> None:
        """Note the limit that a slice leaves: `log[-1000:]`, `del log[:-1000]`."""
        if not part or part[0] != "slice":
            return
        # log[-n:], or log[len(log) - n:]
        ends = [each[3] if each and each[0] == "op" else each for each in part[1:3]]
        numbers = [abs(number) for each in ends if (number := self._match.number(each)) is not None]
        if numbers and max(numbers) > 1:
            self._reading.add("bounds", self._function, effect, self._sure, limit_items=int(max(numbers)))

    def _test(self, effect: Any) -> None:
        """Nothing: see `_comparisons`."""

    _return = _test

    def _bounds(self) -> None:
        """Note the comparisons with a limit that have consequences."""
        evicting = [effect for effect, *_rest in self._removals]
        for effect in self._reader.effects:
            called = effect.what[1] if effect.kind == "test" and effect.what and effect.what[0] == "call" else None
            if (name := name_of(called)) in self._wanted.predicates and name != "<lambda>":
                is_too_many, limit = self._wanted.predicates[name]
                if (limit is None or limit > 1) and self._matters(effect, is_too_many, evicting):
                    items = int(limit) if limit is not None else None
                    self._reading.add("bounds", self._function, effect, True, limit_items=items)
        for effect, comparison in comparisons(self._function):
            _op, symbol, left, right = comparison
            self._match.is_sure = False
            is_left, is_right = self._is_measured(left), self._is_measured(right)
            is_sure = self._match.is_sure
            if is_left == is_right:
                if is_left or not self._is_counter(left, right):
                    continue
                sure = [each[3] for each in self._removals if each[1] or self._is_picked(each[2])]
                if not sure:
                    continue
                is_left, is_sure = True, any(sure)
                if self._match.number(left) is not None and is_like(left, _LIMITS):
                    is_left = False
            other = right if is_left else left
            limit = self._match.number(other)
            if limit is not None and limit <= 1:
                continue
            if is_timely(other):
                continue
            is_too_many = (symbol in MORE) == is_left
            if not self._matters(effect, is_too_many, evicting):
                continue
            in_items = not is_like(other, _NOT_ITEMS[:3]) and (self._is_measured(left) or self._is_measured(right))
            value = int(limit) if limit is not None and (in_items or not is_like(other, _NOT_ITEMS)) else None
            self._reading.add("bounds", self._function, effect, is_sure, limit_items=value)
            self._is_bound = True

    def _is_measured(self, expression: Any) -> bool:
        """Whether an expression has the container's length in it."""
        return any(self._match.is_length(each) for each in nodes(expression))

    def _is_counter(self, left: Any, right: Any) -> bool:
        """Whether something that counts is compared with something that limits."""
        if any(side and side[0] == "call" for side in (left, right)):
            return False  # the length of something else
        return (is_like(left, _COUNTS) and is_like(right, _LIMITS)) or (
            is_like(right, _COUNTS) and is_like(left, _LIMITS)
        )

    def _matters(self, effect: Any, is_too_many: bool, evicting: list[Any]) -> bool:
        """Whether a comparison decides what is removed, refused or inserted."""
        if any(each.offset >= effect.offset or each.loops for each in evicting):
            return True
        first, last = effect.span
        if last <= first:
            return False
        happens = is_too_many != bool(effect.jumps_if)
        calls = [each for each in self._reader.effects if each.kind == "call" and first <= each.offset < last]
        if happens:
            if any(first <= offset < last for offset in self._reader.raises):
                return True
            leaves = any(first <= offset < last for offset in self._reader.exits)
            if leaves and any(each.offset >= last for each in self._inserts):
                return True
            return any(self._is_removing(each) for each in calls)
        return bool(self._inserts) and all(first <= each.offset < last for each in self._inserts)

    def _is_removing(self, call: Any) -> bool:
        """Whether a method or function that is called takes something out of the container."""
        callee = self._match.resolve(call.what)
        if type(callee) is not FunctionType:
            return False
        inner = Function(callee.__code__, callee.__globals__, callee.__qualname__, callee, None)
        sentence = Sentence(self._reading, self._wanted, inner)
        for effect in sentence._reader.effects:
            getattr(sentence, "_" + effect.kind)(effect)
        return bool(sentence._removals)

    def _take_out(self) -> None:
        """Note the removals, what they are found by, and whether time decides about them."""
        when_old = timely(self._function) if self._removals else []
        again = [(each.offset, each.args[0]) for each in self._inserts if each.kind == "store_item" and each.args[0]]
        for effect, is_any, key, is_sure in self._removals:
            if key is not None and not is_any and any(key == k and offset > effect.offset for offset, k in again):
                continue  # taken out to be put in again, as the newest
            is_evicting = is_any or self._is_bound or self._is_picked(key) or self._loops_over(effect)
            role = "evicts" if is_evicting else "removes"
            self._reading.add(role, self._function, effect, is_sure)
            reasons = [each for when, each in when_old if when.offset <= effect.offset]
            if reasons:
                ttl = next((value for each in reasons if (value := self._ttl(each)) is not None), None)
                self._reading.add("expires", self._function, effect, is_sure, ttl_s=ttl)

    def _loops_over(self, effect: Any) -> bool:
        return any(self._match.is_within(each) for each in effect.loops if each)

    def _is_picked(self, key: Any) -> bool:
        """Whether a key was taken from the container itself rather than given."""
        for each in nodes(key):
            if each[0] == "each" and self._match.is_within(each[1]):
                return True
            if each[0] == "call" and name_of(each[1]) in _PICKING and self._match.is_within(each[2]):
                return True
        return False

    def _ttl(self, expression: Any) -> float | None:
        """Return how long an item is kept, from a comparison of times, in seconds."""
        found = []
        for each in nodes(expression):
            if each[0] == "op" and each[1] not in ("+", "-", "*"):
                continue
            value = self._match.number(each)
            if value is not None and _SHORTEST_S < value < 1e8:
                found.append(value)
        return max(found, default=None)


def look(
    wanted: list[tuple[str, list[tuple[str, Any]]]], budget_ns: int, variables: dict[int, list[tuple[int, str]]]
) -> tuple[Look, Any]:
    """Return a look at `(identity, path)` of containers, and the steps that take it.

    Args:
        wanted: the containers.
        budget_ns: CPU time that it may take.
        variables: (id of the code, name) of each local variable of functions at work, by the id of its value.
    """
    seeing = Look(budget_ns, variables)
    return seeing, seeing.run([Wanted(identity, path) for identity, path in wanted])
