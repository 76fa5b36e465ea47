"""A service whose objects note it when any of their own code runs; it fills containers by means that run none of it.

The classes do what proxies of web frameworks, mocks and lazily imported modules do: answer for another object, or
fetch it, whenever they are asked anything. "look" prints what was run since the last time.
"""

import json
import sys
import threading
import time
import traceback
import types
from collections import OrderedDict, defaultdict, deque

ran = {}
is_watched = False


def note(name):
    if is_watched:
        line = traceback.extract_stack(sys._getframe(2), limit=1)
        where = f"{name} by {line[0].name} at {line[0].lineno}" if line else name
        ran[where] = ran.get(where, 0) + 1


SPECIAL = """__getattr__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __len__ __bool__ __repr__ __str__ __iter__
__contains__ __sizeof__ __call__ __index__ __int__ __float__ __reduce__ __reduce_ex__ __dir__ __getitem__ __reversed__
__next__ __format__ __bytes__ __enter__ __exit__ __await__ __get__ __set__ __delete__ __length_hint__ __fspath__
__instancecheck__ __subclasscheck__ __missing__ __add__ __mul__ __copy__ __getstate__ keys values items get copy
isidentifier startswith maxlen""".split()


def noting(name):
    """Return a method that notes that it ran, and does what the base class does."""

    def method(self, *arguments, **more):
        note(name)
        for base in type.__dict__["__mro__"].__get__(type(self))[1:]:
            found = base.__dict__.get(name)
            if found is not None and getattr(found, "__name__", "") == name and type(found) is not types.FunctionType:
                return found(self, *arguments, **more)
        if name in ("__getattr__",):
            raise AttributeError(arguments[0])
        if name in ("__missing__", "__getitem__"):
            raise KeyError
        if name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__mul__"):
            return NotImplemented
        raise TypeError(name)

    method.__name__ = name
    return method


def meddling(*bases, leave=(), **more):
    """Return a class of these bases that notes whatever is asked of its instances."""

    def lies(self):
        note("__class__")
        return dict

    def getattribute(self, name):
        note(f"__getattribute__({name})")
        return base_of[0].__getattribute__(self, name)

    base_of = bases or (object,)
    space = {name: noting(name) for name in SPECIAL if name not in leave}
    space |= {"__class__": property(lies), "__getattribute__": getattribute, **more}
    return Meta("Meddling" + base_of[0].__name__.capitalize(), bases, space)


class Meta(type):
    def __getattribute__(cls, name):
        note(f"type.__getattribute__({name})")
        return type.__getattribute__(cls, name)

    def __instancecheck__(cls, other):
        note("type.__instancecheck__")
        return True

    def __subclasscheck__(cls, other):
        note("type.__subclasscheck__")
        return True

    def __len__(cls):
        note("type.__len__")
        return 0

    def __bool__(cls):
        note("type.__bool__")
        return True

    def __repr__(cls):
        note("type.__repr__")
        return "meddling"

    def __iter__(cls):
        note("type.__iter__")
        return iter(())


KINDS = [meddling(base) for base in (object, dict, list, tuple, set, frozenset, deque, OrderedDict, defaultdict)]
KINDS += [meddling(base) for base in (int, float, bytes, bytearray, threading.Thread)]
TEXT = meddling(str, leave=("__hash__", "__eq__"))
MODULE = meddling(types.ModuleType)
SLOTTED = Meta(
    "Slotted", (), {"__slots__": ("kept", "max_size")} | {"__class__": property(lambda self: note("__class__") or dict)}
)


def make(kind):
    """Return a new instance, by none of its own code."""
    mro = type.__dict__["__mro__"].__get__(kind)
    base = next(each for each in mro if not isinstance(each, Meta))
    if base is threading.Thread:
        return object.__new__(kind)
    return base.__new__(kind)


class Holder:
    """Holds containers that grow, each with instances of one class."""


ITEMS = [[] for _ in KINDS]
BY_TEXT = {}
INSIDE = {str(number): make(kind) for number, kind in enumerate(KINDS)}
HOLDER = Holder()
HOLDER.queue = make(KINDS[6])
HOLDER.data = make(KINDS[1])
HOLDER.rows = make(KINDS[2])
HOLDER.seen = make(KINDS[4])
SLOTS = make(SLOTTED)
type.__dict__["__dict__"].__get__(SLOTTED)["kept"].__set__(SLOTS, [])
MEDDLER = make(KINDS[0])
object.__getattribute__(MEDDLER, "__dict__")["inner"] = INNER = {}
CLOSURE = []


def closing_over(kept):
    return lambda: kept


CLOSURE.append(closing_over(make(KINDS[0])))
sys.modules["a_module_that_is_fetched_when_it_is_asked"] = make(MODULE)
types.ModuleType.__init__(sys.modules["a_module_that_is_fetched_when_it_is_asked"], "lazy")
sys.modules["no_module_at_all"] = make(KINDS[0])
sys.modules["no_module_at_all_2"] = SLOTS


def fill():
    number = 0
    while True:
        for _ in range(10):
            number += 1
            for items, kind in zip(ITEMS, KINDS):
                items.append(make(kind))
            deque.append(HOLDER.queue, make(KINDS[0]))
            deque.append(HOLDER.queue, [number])
            dict.__setitem__(HOLDER.data, number, make(KINDS[2]))
            list.append(HOLDER.rows, make(KINDS[1]))
            list.append(HOLDER.rows, {number: number})
            set.add(HOLDER.seen, (number, "of a set"))
            BY_TEXT[str.__new__(TEXT, f"key {number}")] = make(KINDS[0])
            INNER[number] = make(KINDS[3])
            SLOTTED_KEPT.append(make(SLOTTED))
        time.sleep(0.02)


SLOTTED_KEPT = type.__dict__["__dict__"].__get__(SLOTTED)["kept"].__get__(SLOTS)
threading.Thread(target=fill, daemon=True).start()
is_watched = True
print("ready", flush=True)
for _line in sys.stdin:
    told, ran = ran, {}
    print(json.dumps(told), flush=True)
