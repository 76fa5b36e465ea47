"""Ways to keep things in containers, and what the code says of each: which functions put in, take out, limit.

Each case is `name: (identity of the container, roles, limit_items, ttl_s)`; roles name functions. Nothing of this is
ever run: what counts is what the code would do.
"""

import asyncio
import functools
import bisect
import heapq
import asyncio
import logging
import queue
import threading
import time
import weakref
from collections import OrderedDict, defaultdict, deque
from datetime import datetime, timedelta

import sessions
from sessions import BY_ID as RENAMED

CASES = {}
MOST_KEPT = 500
TTL = 30
KEEP_FOR = timedelta(minutes=2)


def case(name, container, limit_items=None, ttl_s=None, **roles):
    CASES[name] = id(container), roles, limit_items, ttl_s


class HandLru:
    def __init__(self):
        self._entries = OrderedDict()
        self.how_many_to_keep = 321

    def get(self, key):
        value = self._entries.pop(key)
        self._entries[key] = value
        return value

    def put(self, key, value):
        self._entries[key] = value
        while len(self._entries) > self.how_many_to_keep:
            self._entries.popitem(last=False)


HAND_LRU = HandLru()
case(
    "lru by hand, limit in an attribute of any name",
    HAND_LRU._entries,
    321,
    inserts=["HandLru.put", "HandLru.get"],
    evicts=["HandLru.put"],
    bounds=["HandLru.put"],
)


def audit(event, size=1, trail=[]):
    trail.append(event)
    return len(trail) * size


case("default of a parameter", audit.__defaults__[1], inserts=["audit"])


def note_all(event, by_kind={"all": []}):
    by_kind["all"].append(event)


case("within the default of a parameter", note_all.__defaults__[0]["all"], inserts=["note_all"])

RECENT = {}


def remember_recent(key, value):
    if len(RECENT) >= MOST_KEPT:
        RECENT.pop(next(iter(RECENT)))
    RECENT[key] = value


case(
    "oldest key popped, limit in a global",
    RECENT,
    500,
    inserts=["remember_recent"],
    evicts=["remember_recent"],
    bounds=["remember_recent"],
)


class Refusing:
    def __init__(self, room=250):
        self.waiting_room = {}
        self.room = room

    def admit(self, guest):
        if len(self.waiting_room) >= self.room:
            raise RuntimeError("full")
        self.waiting_room[guest.id] = guest


REFUSING = Refusing()
case("refused when full", REFUSING.waiting_room, 250, inserts=["Refusing.admit"], bounds=["Refusing.admit"])


class OnlyWhileSmall:
    LARGEST = 64 * 4

    def __init__(self):
        self.memory = {}

    def compute(self, key):
        found = self.memory.get(key)
        if found is None:
            found = key * 2
            if len(self.memory) < self.LARGEST:
                self.memory[key] = found
        return found


ONLY_WHILE_SMALL = OnlyWhileSmall()
case(
    "filled only while small, limit in the class",
    ONLY_WHILE_SMALL.memory,
    256,
    inserts=["OnlyWhileSmall.compute"],
    bounds=["OnlyWhileSmall.compute"],
)


class EvictsElsewhere:
    def __init__(self):
        self._pages = {}
        self._capacity_hint = 77

    def store(self, key, page):
        self._pages[key] = page
        if len(self._pages) > self._capacity_hint:
            self._shrink()

    def _shrink(self):
        for key in list(self._pages)[:10]:
            del self._pages[key]


EVICTS_ELSEWHERE = EvictsElsewhere()
case(
    "a method of its own evicts",
    EVICTS_ELSEWHERE._pages,
    77,
    inserts=["EvictsElsewhere.store"],
    evicts=["EvictsElsewhere._shrink"],
    bounds=["EvictsElsewhere.store"],
)


class Counted:
    def __init__(self):
        self.blobs = {}
        self.current_count = 0
        self.max_count = 99

    def add(self, key, blob):
        self.blobs[key] = blob
        self.current_count += 1
        while self.current_count > self.max_count:
            self.blobs.popitem()
            self.current_count -= 1


COUNTED = Counted()
case(
    "a counter beside it is compared",
    COUNTED.blobs,
    99,
    inserts=["Counted.add"],
    evicts=["Counted.add"],
    bounds=["Counted.add"],
)


class Swept:
    def __init__(self, ttl=45.0):
        self.seen = {}
        self.ttl = ttl
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.sweep, daemon=True)

    def note(self, key):
        with self.lock:
            self.seen[key] = time.monotonic()

    def sweep(self):
        while True:
            time.sleep(1)
            now = time.monotonic()
            with self.lock:
                for key in [key for key, at in self.seen.items() if now - at > self.ttl]:
                    del self.seen[key]


SWEPT = Swept()
case(
    "a thread sweeps what is old",
    SWEPT.seen,
    None,
    45.0,
    inserts=["Swept.note"],
    evicts=["Swept.sweep"],
    expires=["Swept.sweep"],
)

TOKENS = {}


def issue(token, user):
    TOKENS[token] = (user, time.time() + TTL)


def look_up(token):
    entry = TOKENS.get(token)
    if entry is None:
        return None
    user, expires = entry
    if expires < time.time():
        del TOKENS[token]
        return None
    return user


case("checked when it is read", TOKENS, None, 30.0, inserts=["issue"], removes=["look_up"], expires=["look_up"])


class ByDatetime:
    def __init__(self):
        self.records = {}

    def write(self, key):
        self.records[key] = datetime.now()

    def purge(self):
        cutoff = datetime.now() - KEEP_FOR
        old = []
        for key, at in self.records.items():
            if at < cutoff:
                old.append(key)
        for key in old:
            self.records.pop(key, None)


BY_DATETIME = ByDatetime()
case(
    "timedelta, in two steps",
    BY_DATETIME.records,
    None,
    120.0,
    inserts=["ByDatetime.write"],
    evicts=["ByDatetime.purge"],
    expires=["ByDatetime.purge"],
)


class Rebuilt:
    def __init__(self):
        self.leases = {}
        self.lease_s = 15

    def grant(self, key):
        self.leases[key] = time.monotonic()

    def prune(self, now):
        self.leases = {key: at for key, at in self.leases.items() if now - at < self.lease_s}


REBUILT = Rebuilt()
case(
    "rebuilt without what is old",
    REBUILT.leases,
    None,
    15.0,
    inserts=["Rebuilt.grant"],
    evicts=["Rebuilt.prune"],
    expires=["Rebuilt.prune"],
)

DELAYED = {}


def keep_a_while(loop, key, value):
    DELAYED[key] = value
    loop.call_later(60, DELAYED.pop, key, None)


case(
    "popped by a timer",
    DELAYED,
    None,
    60.0,
    inserts=["keep_a_while"],
    removes=["keep_a_while"],
    expires=["keep_a_while"],
)

LOGGED_IN = {}


def login(user):
    LOGGED_IN[user] = object()


def logout(user):
    LOGGED_IN.pop(user, None)


case("logout", LOGGED_IN, inserts=["login"], removes=["logout"])


class Requests:
    def __init__(self):
        self.in_flight = {}

    async def handle(self, request, work):
        self.in_flight[request.id] = request
        try:
            return await work(request)
        finally:
            self.in_flight.pop(request.id, None)


REQUESTS = Requests()
case("popped in finally", REQUESTS.in_flight, inserts=["Requests.handle"], removes=["Requests.handle"])


class Sliced:
    def __init__(self):
        self.log = []

    def write(self, line):
        self.log.append(line)
        self.log = self.log[-1000:]


SLICED = Sliced()
case(
    "list cut by slicing", SLICED.log, 1000, inserts=["Sliced.write"], evicts=["Sliced.write"], bounds=["Sliced.write"]
)

HISTORY = []


def append_history(line):
    HISTORY.append(line)
    if len(HISTORY) > 200:
        del HISTORY[:-100]


case("list cut by del", HISTORY, 200, inserts=["append_history"], evicts=["append_history"], bounds=["append_history"])

RING = deque(maxlen=5000)


def turn(item):
    RING.append(item)


case("deque with maxlen", RING, inserts=["turn"])


class Tasks:
    def __init__(self):
        self.running = set()

    def spawn(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.running.add(task)
        task.add_done_callback(self.running.discard)


TASKS = Tasks()
case("discarded when done", TASKS.running, inserts=["Tasks.spawn"], removes=["Tasks.spawn"])


class LruDict(OrderedDict):
    def __init__(self, limit):
        super().__init__()
        self.biggest = limit

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.biggest:
            oldest = next(iter(self))
            del self[oldest]


LRU_DICT = LruDict(64)
case(
    "subclass that evicts",
    LRU_DICT,
    64,
    inserts=["LruDict.__setitem__"],
    evicts=["LruDict.__setitem__"],
    bounds=["LruDict.__setitem__"],
)

UNBOUNDED = {}


def leak(key, value):
    if key not in UNBOUNDED:
        UNBOUNDED[key] = value
    if len(UNBOUNDED) > 10_000:
        print("many")


case("dict without end, its length only watched", UNBOUNDED, inserts=["leak"])


class Aliased:
    def __init__(self):
        self._collected = []

    def run(self, items):
        push = self._collected.append
        mine = self._collected
        for each in items:
            push(each)
        mine.extend(items)


ALIASED = Aliased()
case("list without end, by aliases", ALIASED._collected, inserts=["Aliased.run"])


def make_log():
    lines = []

    def log(text):
        lines.append(text)

    def flush():
        lines.clear()

    return log, flush


LOG, FLUSH = make_log()
case(
    "list in a closure",
    LOG.__closure__[0].cell_contents,
    inserts=["make_log.<locals>.log"],
    evicts=["make_log.<locals>.flush"],
)


def open_session(key):
    sessions.BY_ID[key] = object()


def close_session(key):
    del RENAMED[key]


case("global of another module", sessions.BY_ID, inserts=["open_session"], removes=["close_session"])

HEAP = []


def schedule(when, what):
    heapq.heappush(HEAP, (when, what))


def run_due(now):
    while HEAP and HEAP[0][0] <= now:
        heapq.heappop(HEAP)


case("heap of timers", HEAP, inserts=["schedule"], evicts=["run_due"], expires=["run_due"])

SORTED = []


def insert_sorted(value):
    bisect.insort(SORTED, value)


case("sorted list", SORTED, inserts=["insert_sorted"])

GROUPS = defaultdict(list)


def group(key, value):
    GROUPS[key].append(value)


case("defaultdict of lists", GROUPS, inserts=["group"])


HITS = defaultdict(dict)


def is_allowed(address):
    return len(HITS[address]) < 100


case("defaultdict that is looked up", HITS, inserts=["is_allowed"])

READ = defaultdict(int)


def count(word):
    READ[word] += 1


def times(word):
    if len(READ) > 10_000:
        return 0
    return READ[word]


case("defaultdict that is read beside", READ, inserts=["count"])


class Index:
    def __init__(self):
        self.by_word = {}

    def add(self, word, document):
        self.by_word.setdefault(word, []).append(document)


INDEX = Index()
case("setdefault and append", INDEX.by_word, inserts=["Index.add"])

INDEX.by_word["the"] = []
case("list within a dict", INDEX.by_word["the"], inserts=["Index.add"])

BUFFER = [None] * 100


def overwrite(number, value):
    BUFFER[number % len(BUFFER)] = value


case("ring buffer", BUFFER)


class Nightly:
    def __init__(self):
        self.visits = {}
        self.day = None

    def visit(self, who):
        today = datetime.now().date()
        if today != self.day:
            self.visits.clear()
            self.day = today
        self.visits[who] = today


NIGHTLY = Nightly()
case("cleared at midnight", NIGHTLY.visits, inserts=["Nightly.visit"], evicts=["Nightly.visit"])


class Batches:
    def __init__(self, sink):
        self.batch = []
        self.sink = sink

    def add(self, row):
        self.batch.append(row)
        if len(self.batch) >= 50:
            self.flush()

    def flush(self):
        rows, self.batch = self.batch, []
        self.sink(rows)


BATCHES = Batches(print)
case("batch handed on", BATCHES.batch, 50, inserts=["Batches.add"], evicts=["Batches.flush"], bounds=["Batches.add"])


class Deep:
    def __init__(self, settings):
        self.settings = settings
        self.kept = {}

    @property
    def entries(self):
        return self.kept

    def size(self):
        return len(self.kept)

    def is_full(self):
        return self.size() >= self.settings.max_things

    def add(self, key, value):
        if self.size() >= self.settings.max_things:
            return False
        self.entries[key] = value
        return True


class Settings:
    max_things = 1234


DEEP = Deep(Settings())
case("property, size(), limit in settings", DEEP.kept, 1234, inserts=["Deep.add"], bounds=["Deep.add"])


def put_into(table, key, value):
    table[key] = value


PASSED = {}


def pass_on(key):
    put_into(PASSED, key, 1)


case("passed as an argument", PASSED, inserts=["put_into"])


def make_table():
    table = {}

    def keep(key, value):
        table[key] = value

    def forget(key):
        table.pop(key, None)

    table["first"] = 0
    return keep, forget


KEEP, FORGET = make_table()
case(
    "dict in a closure, filled by its maker too",
    KEEP.__closure__[0].cell_contents,
    inserts=["make_table", "make_table.<locals>.keep"],
    removes=["make_table.<locals>.forget"],
)


def make_pool():
    class Pool:
        def __init__(self):
            self.idle_pool = []
            self.most_idle = 8

        def release(self, connection):
            if len(self.idle_pool) < self.most_idle:
                self.idle_pool.append(connection)

        def acquire(self):
            return self.idle_pool.pop()

    return Pool()


POOL = make_pool()
case(
    "a class within a function",
    POOL.idle_pool,
    8,
    inserts=["make_pool.<locals>.Pool.release"],
    evicts=["make_pool.<locals>.Pool.acquire"],
    bounds=["make_pool.<locals>.Pool.release"],
)

HEADERS = {}


def add_header(name, value, history, max_redirects):
    HEADERS[name] = value
    HEADERS.pop("Cookie", None)
    if len(history) > max_redirects:
        raise RuntimeError


case("only one key is ever popped, another's length compared", HEADERS, inserts=["add_header"])


class Watcher:
    def __init__(self, registry):
        self.registry = registry

    def watch(self, thing):
        self.registry[id(thing)] = thing
        weakref.finalize(thing, self.registry.pop, id(thing), None)


WATCHED = {}
WATCHER = Watcher(WATCHED)


def make_watcher():
    return Watcher(WATCHED)


case("kept under another name by its user", WATCHED, inserts=["Watcher.watch"], removes=["Watcher.watch"])

JOBS = queue.Queue(maxsize=300)


def produce(job):
    JOBS.put(job)


def consume():
    while True:
        JOBS.get()


case("queue", JOBS.queue, 300, inserts=["produce"], evicts=["Queue._get"], bounds=["Queue.put"])


class Rates:
    @functools.lru_cache(maxsize=None)
    def of_day(self, day):
        return day


case("results of a function", Rates.of_day, inserts=["Rates.of_day"])


class Pipeline:
    def __init__(self):
        self._inbox = asyncio.Queue()
        self._log = logging.Logger("pipeline")

    def feed(self, piece):
        hand_over(self._inbox, piece)

    def begin(self, handler):
        self._log.addHandler(handler)


def hand_over(inbox, piece):
    inbox.put_nowait(piece)


PIPELINE = Pipeline()
case("queue handed on", PIPELINE._inbox._queue, inserts=["hand_over"], evicts=["Queue._get"])
case("handlers of a logger", PIPELINE._log.handlers, inserts=["Pipeline.begin"], removes=["Logger.removeHandler"])


class WithSlots:
    __slots__ = ("_history", "_most")

    def __init__(self):
        self._history = deque()
        self._most = 17

    def add(self, item):
        self._history.append(item)
        if len(self._history) > self._most:
            self._history.popleft()


WITH_SLOTS = WithSlots()
case("slots", WITH_SLOTS._history, 17, inserts=["WithSlots.add"], evicts=["WithSlots.add"], bounds=["WithSlots.add"])


class Mailbox:
    """Has a clear method, but that is another's attribute of the same name."""

    def __init__(self):
        self._inbox = []

    def receive(self, mail):
        self._inbox.append(mail)


class OtherMailbox:
    def __init__(self):
        self._inbox = []

    def clear(self):
        self._inbox.clear()

    def limit(self):
        if len(self._inbox) > 5:
            self._inbox.pop(0)


MAILBOX = Mailbox()
OTHER_MAILBOX = OtherMailbox()
case("another class has an attribute of that name", MAILBOX._inbox, inserts=["Mailbox.receive"])


class Total(list):
    def note(self, value):
        self.append(value)


TOTAL = Total()
case("list subclass without end", TOTAL, inserts=["Total.note"])


class CheckedByName:
    def __init__(self):
        self.nonces = {}

    def is_expired(self, at):
        return time.time() - at > 300

    def use(self, nonce):
        self.nonces[nonce] = time.time()
        for each in list(self.nonces):
            if self.is_expired(self.nonces[each]):
                self.nonces.pop(each)


CHECKED_BY_NAME = CheckedByName()
case(
    "whether it expired says another method",
    CHECKED_BY_NAME.nonces,
    inserts=["CheckedByName.use"],
    evicts=["CheckedByName.use"],
    expires=["CheckedByName.use"],
)


RAN = []


class Touchy:
    """Tells when anything of it is run."""

    def __init__(self):
        self.held = {}

    def __getattr__(self, name):
        RAN.append(name)
        raise AttributeError(name)

    def __len__(self):
        RAN.append("len")
        return 5

    def __eq__(self, other):
        RAN.append("eq")
        return False

    def __hash__(self):
        RAN.append("hash")
        return 1

    def __bool__(self):
        RAN.append("bool")
        return True

    @property
    def most(self):
        RAN.append("most")
        return 10

    def hold(self, key, value):
        self.held[key] = value
        if len(self.held) > self.most:
            self.held.clear()
        if len(self) > self.absent:
            self.gone.clear()


TOUCHY = Touchy()
case("limit in a property", TOUCHY.held, inserts=["Touchy.hold"], evicts=["Touchy.hold"], bounds=["Touchy.hold"])
