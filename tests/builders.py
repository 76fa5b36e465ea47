"""Small synthetic profiles: a service in numbers, written through `ProfileWriter` like a real recording.

`healthy(path)` and `leaking(path)` are whole services; `make_profile(path, heap=[...])` is for
a test that needs exactly these rows. Rows are mappings as in `perfkit.tables`, except that
`stack` stands for `stack_id` (a tuple of `(function, file, line)`, root to leaf) and `thread`
for `thread_id` (its name). All rows are the same on every run: no clock, no global randomness.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from perfkit.profile import Manifest, Profile, ProfileWriter
from perfkit.symbols import Symbols
from perfkit.tables import TABLES

Frame = tuple[str, str | None, int | None]
Stack = tuple[Frame, ...]
Row = Mapping[str, Any]

PID = 4242
SECOND_NS = 1_000_000_000
MIB = 1 << 20

MAIN: Stack = (
    ("<module>", "/srv/app/main.py", 12),
    ("run", "/usr/lib/python3.11/asyncio/runners.py", 118),
    ("run_until_complete", "/usr/lib/python3.11/asyncio/base_events.py", 654),
    ("handle", "/srv/app/server.py", 71),
)
LOGIN: Stack = (*MAIN, ("login", "/srv/app/views.py", 88), ("open_session", "/srv/app/sessions.py", 31))
READ_BODY: Stack = (*MAIN, ("read_body", "/srv/app/server.py", 140))
ENCODE: Stack = (*MAIN, ("render", "/srv/app/views.py", 41), ("dumps", "/usr/lib/python3.11/json/__init__.py", 231))
IMPORTS: Stack = (MAIN[0], ("_load", "/srv/app/templates.py", 9))
POLL: Stack = (*MAIN[:3], ("select", "/usr/lib/python3.11/selectors.py", 468))
WORKER: Stack = (
    ("_bootstrap", "/usr/lib/python3.11/threading.py", 1002),
    ("_worker", "/usr/lib/python3.11/concurrent/futures/thread.py", 81),
)
SESSION_BYTES = 8 * 1024


def make_profile(
    path: Path,
    *,
    duration_s: float = 60.0,
    heap: Iterable[Row] = (),
    usage: Iterable[Row] = (),
    ledger: Iterable[Row] = (),
    census: Iterable[Row] = (),
    containers: Iterable[Row] = (),
    snapshots: Iterable[Row] = (),
    objects: Iterable[Row] = (),
    references: Iterable[Row] = (),
    cpu: Iterable[Row] = (),
    process: Iterable[Row] = (),
    requests: Iterable[Row] = (),
    gc_pauses: Iterable[Row] = (),
    gc_counts: Iterable[Row] = (),
    garbage: Iterable[Row] = (),
    lag: Iterable[Row] = (),
    events: Iterable[Row] = (),
    settings: Iterable[Row] = (),
    pool_events: Iterable[Row] = (),
    pool_states: Iterable[Row] = (),
    pool_holders: Iterable[Row] = (),
    quality: Iterable[Row] = (),
    others: Mapping[str, Iterable[Row]] | None = None,
    manifest: Mapping[str, Any] | None = None,
    pid: int = PID,
) -> Profile:
    """Return a profile of exactly these rows, `others` by table; `pid` and the cells left out get plain defaults."""
    symbols = Symbols()
    given = {
        "heap_survival": heap,
        "heap_usage": usage,
        "memory_ledger": ledger,
        "object_census": census,
        "container_sizes": containers,
        "heap_snapshots": snapshots,
        "heap_objects": objects,
        "heap_references": references,
        "cpu_samples": cpu,
        "process_stats": process,
        "requests": requests,
        "gc_pauses": gc_pauses,
        "gc_counts": gc_counts,
        "garbage": garbage,
        "loop_lag": lag,
        "events": events,
        "settings": settings,
        "pool_events": pool_events,
        "pool_states": pool_states,
        "pool_holders": pool_holders,
        "recording_quality": quality,
    } | dict(others or {})
    tables = {name: _table(name, rows, symbols, pid) for name, rows in given.items()}
    tables |= symbols.tables()
    about: dict[str, Any] = {
        "name": path.name,
        "started_unix_ns": 1_767_225_600 * SECOND_NS,
        "started_monotonic_ns": 5_000 * SECOND_NS,
        "duration_ns": int(duration_s * SECOND_NS),
        "targets": ({"pid": pid, "parent": 1, "python": "3.11.7", "program": "python3.11"},),
        "host": {"system": "Linux", "machine": "x86_64", "cores": 2, "memory_bytes": 8 << 30},
        "tools": {"perfkit": "0.1.0", "py-spy": "0.4.3", "memray": "1.20.0"},
    }
    writer = ProfileWriter.create(path)
    try:
        return writer.finish(tables, Manifest(**(about | dict(manifest or {}))))
    finally:
        writer.close()


def healthy(path: Path, *, seconds: int = 60, **more: Any) -> Profile:
    """Return a service whose sessions expire after six seconds: memory rises at first, then stays."""
    return _service(path, seconds, session_lifetime_s=6, **more)


def leaking(path: Path, *, seconds: int = 60, **more: Any) -> Profile:
    """Return a service that never drops a session: `login` (app/views.py) grows `SESSIONS` by 160 KiB per second."""
    return _service(path, seconds, session_lifetime_s=None, **more)


def _service(path: Path, seconds: int, session_lifetime_s: int | None, **more: Any) -> Profile:
    """Return 20 requests per second on one event loop, one session each, read and dropped buffers beside it."""
    rows: dict[str, Any] = {
        "heap": heap_rows(seconds, session_lifetime_s),
        "usage": usage_rows(seconds, session_lifetime_s),
        "ledger": ledger_rows(seconds, session_lifetime_s),
        "census": census_rows(seconds, session_lifetime_s),
        "containers": container_rows(seconds, session_lifetime_s),
        **graph_rows(seconds, session_lifetime_s),
        "cpu": cpu_rows(seconds),
        "process": process_rows(seconds),
        "requests": request_rows(seconds),
        "gc_pauses": gc_pause_rows(seconds),
        "gc_counts": [
            {"at_ns": at * SECOND_NS // 4, "count0": at * 83 % 700, "count1": at % 11, "count2": 3}
            for at in range(4 * seconds)
        ],
        "garbage": garbage_rows(seconds),
        "settings": setting_rows(),
        "events": [{"at_ns": 0, "duration_ns": seconds * SECOND_NS, "kind": "load", "name": "constant 20/s"}],
        **pool_rows(seconds),
        "quality": quality_rows(seconds),
    }
    return make_profile(path, duration_s=seconds, **(rows | more))


def sessions_alive(at_s: float, session_lifetime_s: int | None, per_s: int = 20) -> int:
    """Return how many sessions live at a moment of the recording."""
    return int(per_s * (at_s if session_lifetime_s is None else min(at_s, session_lifetime_s)))


def live_bytes(at_s: float, session_lifetime_s: int | None) -> int:
    """Return the traced heap at a moment: templates that load in the first six seconds, and the sessions."""
    return int(min(at_s, 6) / 6 * 3 * MIB) + sessions_alive(at_s, session_lifetime_s) * SESSION_BYTES


def heap_rows(seconds: int, session_lifetime_s: int | None, step_s: int = 2) -> list[Row]:
    """Return survival rows in intervals of two seconds: sessions, request buffers and start-up."""
    rows: list[Row] = []

    def add(stack: Stack, born_s: int, died_s: int | None, allocations: int, size_bytes: int) -> None:
        freed = None if died_s is None or died_s > seconds else died_s * SECOND_NS
        rows.append(
            {
                "stack": stack,
                "allocated_ns": born_s * SECOND_NS,
                "freed_ns": freed,
                "allocations": allocations,
                "size_bytes": size_bytes,
            }
        )

    for end in range(step_s, seconds + 1, step_s):
        sessions = 20 * step_s
        died = None if session_lifetime_s is None else end + session_lifetime_s
        add(LOGIN, end, died, sessions, sessions * SESSION_BYTES)
        add(READ_BODY, end, end, 38 * step_s, 38 * step_s * 4096)
        add(READ_BODY, end, end + step_s, 2 * step_s, 2 * step_s * 4096)
        add(ENCODE, end, end, 400 * step_s, 400 * step_s * 256)
        if end <= 6:
            add(IMPORTS, end, None, 120, MIB)
    return rows


def usage_rows(seconds: int, session_lifetime_s: int | None) -> list[Row]:
    """Return ten readings per second of resident and traced bytes, with the saw teeth of request buffers."""
    rows: list[Row] = []
    for tenth in range(seconds * 10 + 1):
        live = live_bytes(tenth / 10, session_lifetime_s)
        rows.append(
            {
                "at_ns": tenth * SECOND_NS // 10,
                "rss_bytes": 44 * MIB + live + tenth % 7 * 32_768,
                "traced_bytes": live + tenth % 7 * 24_576,
            }
        )
    return rows


def ledger_rows(seconds: int, session_lifetime_s: int | None, limit_bytes: int | None = 256 * MIB) -> list[Row]:
    """Return one reading per second of what the resident memory consists of."""
    rows: list[Row] = []
    for at_s in range(seconds + 1):
        live = live_bytes(at_s, session_lifetime_s)
        anon = 24 * MIB + live + at_s % 5 * 16_384
        rows.append(
            {
                "at_ns": at_s * SECOND_NS,
                "rss_bytes": anon + 20 * MIB,
                "anon_bytes": anon,
                "file_bytes": 20 * MIB,
                "shmem_bytes": 0,
                "python_blocks": 180_000 + live // 128,
                "pymalloc_free_bytes": 600_000 + at_s % 3 * 8192,
                "glibc_in_use_bytes": 9 * MIB + live // 2,
                "glibc_retained_bytes": MIB,
                "cgroup_bytes": anon + 30 * MIB,
                "cgroup_inactive_file_bytes": 4 * MIB,
                "cgroup_limit_bytes": limit_bytes,
            }
        )
    return rows


def census_rows(seconds: int, session_lifetime_s: int | None, step_s: int = 10) -> list[Row]:
    """Return counts by type, one rung each ten seconds: sessions and their dicts follow the service's state."""
    rows: list[Row] = []
    for rung, at_s in enumerate(range(0, seconds + 1, step_s)):
        sessions = sessions_alive(at_s, session_lifetime_s)
        for type_, objects, each in (
            ("app.sessions.Session", sessions, 48),
            ("builtins.dict", 6_200 + sessions + rung % 3, 232),
            ("builtins.function", 14_350, 160),
            ("builtins.tuple", 9_120 + rung % 2 * 7, 56),
            ("asyncio.events.Handle", 6 + rung % 4, 104),
        ):
            rows.append(
                {
                    "at_ns": at_s * SECOND_NS,
                    "rung": rung,
                    "type": type_,
                    "objects": objects,
                    "size_bytes": objects * each,
                }
            )
    return rows


def container_rows(seconds: int, session_lifetime_s: int | None, step_s: int = 10) -> list[Row]:
    """Return the lengths of the session map and of a route table, one rung each ten seconds."""
    rows: list[Row] = []
    for rung, at_s in enumerate(range(0, seconds + 1, step_s)):
        shared = {"at_ns": at_s * SECOND_NS, "rung": rung, "type": "builtins.dict"}
        rows.append(
            shared
            | {
                "container": "0x3",
                "items": sessions_alive(at_s, session_lifetime_s),
                "item_type": "app.sessions.Session",
                "owner": "module app.sessions > SESSIONS",
            }
        )
        rows.append(
            shared
            | {
                "container": "0x5",
                "items": 64,
                "item_type": "app.routes.Route",
                "owner": "module app.routes > ROUTES",
            }
        )
    return rows


def graph_rows(seconds: int, session_lifetime_s: int | None) -> dict[str, list[Row]]:
    """Return snapshots of the heap at a tenth and at the end: sessions, each with its dict, a text and a buffer."""
    objects: list[Row] = []
    references: list[Row] = []

    def add(
        rung: int, number: int, type_: str, size_bytes: int, held_by: int | None, label: str = "", **more: Any
    ) -> None:
        shared = {"rung": rung, "object_id": number, "type": type_, "size_bytes": size_bytes}
        objects.append(shared | {"refcount": int(held_by is not None)} | more)
        if held_by is not None:
            references.append({"rung": rung, "from_id": held_by, "to_id": number, "label": label or None})

    for rung, at_s in enumerate((seconds // 10, seconds)):
        sessions = range(sessions_alive(at_s, None))
        alive = sessions[-sessions_alive(at_s, session_lifetime_s) :]
        add(rung, 1, "builtins.module", 80, None, root="module", name="app.sessions")
        add(rung, 2, "builtins.dict", 400, 1, "<dict>", items=2)
        add(rung, 3, "builtins.dict", 800 + 100 * len(alive), 2, ".SESSIONS", items=len(alive))
        add(rung, 4, "builtins.module", 80, None, root="module", name="app.routes")
        add(rung, 5, "builtins.dict", 9_000, 4, "<dict>", items=64)
        for number in (1000 + 10 * session for session in alive):
            add(rung, number, "app.sessions.Session", 48, 3)
            add(rung, number + 1, "builtins.dict", 232, number, "<dict>", items=2)
            add(rung, number + 2, "builtins.str", 61, number + 1, ".user")
            add(rung, number + 3, "builtins.bytearray", 1_024, number + 1, ".data")
    references.sort(key=lambda row: (row["rung"], row["from_id"]))
    snapshots = [
        {
            "rung": rung,
            "at_ns": at_s * SECOND_NS,
            "mode": "copy",
            "objects": sum(row["rung"] == rung for row in objects),
            "references": sum(row["rung"] == rung for row in references),
            "size_bytes": sum(row["size_bytes"] for row in objects if row["rung"] == rung),
            "stopped_ns": 2_000_000,
        }
        for rung, at_s in enumerate((seconds // 10, seconds))
    ]
    return {"snapshots": snapshots, "objects": objects, "references": references}


def with_sockets(seconds: int) -> dict[str, Any]:
    """Return arguments for `make_profile`: four connections, one closed by its peer, and twenty short ones."""
    states: list[Row] = []
    events: list[Row] = []
    kept = [(number, 0.0, None, 40 * number) for number in range(1, 5)]
    short = [(number, seconds * number / 30, seconds * number / 30 + 0.4, 1) for number in range(5, 25)]
    for cookie, born_s, died_s, exchanges in [*kept, *short]:
        ends = {"cookie": cookie, "local": f"10.0.0.2:{40_000 + cookie}", "peer": "10.0.0.7:80", "role": "upstream"}
        counts = {"sent_bytes": 90 * exchanges, "received_bytes": 700 * exchanges}
        counts |= {"segments_out": exchanges, "segments_in": exchanges}
        ages = {"last_sent_ns": 3_000_000, "last_received_ns": 2_000_000, "inode": 100 + cookie}
        shared = ends | counts | ages | {"recv_q_bytes": 0, "send_q_bytes": 0}
        at_ns = int(born_s * SECOND_NS)
        states.append(shared | {"at_ns": at_ns, "state": "established"})
        if cookie == 4:
            states.append(shared | {"at_ns": seconds * SECOND_NS // 2, "state": "close_wait"})
        event = {"at_ns": at_ns, "earliest_ns": at_ns, "seen_by": "dump", "owner": "descriptor"}
        events.append(ends | event | {"event": "birth" if died_s else "found"})
        if died_s:
            death = {"at_ns": int(died_s * SECOND_NS), "earliest_ns": int(died_s * SECOND_NS), "closer": "local"}
            events.append(ends | counts | event | death | {"event": "death", "idle_ns": 1_000_000})
    quality = {"collector": "sockets", "from_ns": 0, "until_ns": seconds * SECOND_NS, "taken": seconds * 10, "lost": 0}
    return {
        "others": {"sockets": states, "socket_events": events},
        "quality": [*quality_rows(seconds), quality],
    }


def cpu_rows(seconds: int, per_s: int = 50, seed: int = 7) -> list[Row]:
    """Return samples of an event loop that works a third of the time, and of an idle worker thread."""
    random = Random(seed)
    tick = SECOND_NS // per_s
    rows: list[Row] = []
    for number in range(seconds * per_s):
        stack = random.choices((POLL, ENCODE, LOGIN, READ_BODY), (66, 22, 8, 4))[0]
        active = stack is not POLL
        shared = {"tick_ns": number * tick, "weight_ns": tick}
        rows.append(shared | {"thread": "MainThread", "stack": stack, "active": active, "has_gil": active})
        rows.append(shared | {"thread": "worker-0", "stack": WORKER, "active": False, "has_gil": False})
    return rows


def process_rows(seconds: int) -> list[Row]:
    """Return one reading of /proc per second: a third of a CPU, two threads, eleven descriptors."""
    return [
        {
            "at_ns": at_s * SECOND_NS,
            "cpu_user_ns": 300_000_000 * at_s + at_s % 3 * 20_000_000,
            "cpu_system_ns": 40_000_000 * at_s,
            "threads": 2,
            "descriptors": 11,
            "voluntary_switches": 60 * at_s,
            "involuntary_switches": 3 * at_s,
            "minor_faults": 2_000 + 40 * at_s,
            "major_faults": 0,
        }
        for at_s in range(seconds + 1)
    ]


def request_rows(seconds: int, per_s: int = 20, seed: int = 11, error_every: int = 400) -> list[Row]:
    """Return an open loop of `per_s` requests per second: about 3 ms each, a tail, a time-out now and then."""
    random = Random(seed)
    rows: list[Row] = []
    for number in range(seconds * per_s):
        intended = number * SECOND_NS // per_s
        failed = number % error_every == error_every - 1
        latency = 1_000_000_000 if failed else int(random.lognormvariate(1.1, 0.4) * 1e6)
        rows.append(
            {
                "intended_ns": intended,
                "start_ns": intended + random.randrange(40_000),
                "latency_ns": latency,
                "status": None if failed else 200,
                "error": "timeout" if failed else None,
                "route": "login" if number % 5 else "page",
                "method": "POST" if number % 5 else "GET",
                "trace_id": f"{number:032x}",
                "sent_bytes": 220,
                "received_bytes": 0 if failed else 1024,
                "reused": number > 4,
            }
        )
    return rows


TIDY: Stack = (*MAIN, ("tidy", "/srv/app/server.py", 93))
SPAN: Stack = (("Span.__init__", "/srv/app/trace.py", 14),)


def gc_pause_rows(seconds: int) -> list[Row]:
    """Return a young collection twice a second, each eleventh of the middle generation, and one by hand."""
    rows: list[Row] = [
        pause(number * SECOND_NS // 2, 0.3 if number % 11 else 1.2, generation=int(not number % 11), collected=40)
        for number in range(1, 2 * seconds)
    ]
    return [*rows, pause(seconds * SECOND_NS // 3 + 1, 9.0, generation=2, manual=True, collected=12, stack=TIDY)]


def pause(at_ns: int, took_ms: float, *, generation: int = 0, manual: bool = False, **more: Any) -> Row:
    """Return one collection; it frees nothing unless told."""
    took_ns = int(took_ms * 1e6)
    return {
        "start_ns": at_ns, "pause_ns": took_ns, "cpu_ns": took_ns, "generation": generation, "collected": 0,
        "uncollectable": 0, "manual": manual, "os_tid": 1, **more,
    }  # fmt: skip


def garbage_rows(seconds: int) -> list[Row]:
    """Return what a look every five seconds finds: few spans in cycles."""
    look = {"generation": 0, "examined": 500}
    return [
        {"at_ns": at * SECOND_NS, **look, **kind}
        for at in range(1, seconds, 5)
        for kind in (
            {"type": "app.trace.Span", "objects": 8, "size_bytes": 900, "descriptors": 0, "stack": SPAN},
            {"type": "builtins.list", "objects": 8, "size_bytes": 700, "descriptors": 0},
        )
    ]


def setting_rows(thresholds: tuple[int, int, int] = (700, 10, 10), *, enabled: bool = True) -> list[Row]:
    """Return the collector's settings as they are read at the start."""
    values = {"gc.enabled": enabled, "gc.thresholds": list(thresholds), "gc.frozen_objects": 0}
    return [{"at_ns": 0, "name": name, "value": json.dumps(value)} for name, value in values.items()]


def pool_rows(seconds: int, per_s: int = 10) -> dict[str, list[Row]]:
    """Return a pool of ten connections with ten short uses per second, and a young collection each second."""
    shared = {"pool": "sqlalchemy QueuePool", "stack": LOGIN}
    events: list[Row] = [
        {**shared, "event": "created", "connection": number, "at_ns": 1_000_000 * number} for number in range(3)
    ]
    for number in range(seconds * per_s - 1):
        use = {**shared, "connection": number % 3, "holder": number}
        at_ns = (number + 1) * SECOND_NS // per_s
        events.append({**use, "event": "acquired", "at_ns": at_ns, "wait_ns": 40_000})
        events.append(
            {**use, "event": "released", "at_ns": at_ns + 20_000_000, "held_ns": 20_000_000, "active_frames": 3}
        )
    states = [
        {"pool": shared["pool"], "at_ns": at * SECOND_NS // 2 + 1, "max": 10, "open": 3, "in_use": int(at % 5 == 0),
         "idle": 3, "waiting": 0, "sockets": 3}
        for at in range(seconds * 2)
    ]  # fmt: skip
    settings = {"library": "sqlalchemy", "max_size": 10, "acquire_timeout_s": 30.0, "max_lifetime_s": 3600}
    thresholds = {"at_ns": 0, "name": "gc.thresholds", "value": "[700, 10, 10]"}
    return {
        "pool_events": sorted(events, key=lambda row: row["at_ns"]),
        "pool_states": states,
        "settings": [
            thresholds,
            *({"at_ns": 0, "name": f"pool.{shared['pool']}.{name}", "value": json.dumps(value)}
              for name, value in settings.items()),
        ],
        "gc_pauses": [
            {"start_ns": at * SECOND_NS, "pause_ns": 400_000, "generation": 0, "collected": 3, "uncollectable": 0}
            for at in range(1, seconds)
        ],
    }  # fmt: skip


def quality_rows(seconds: int) -> list[Row]:
    """Return collectors that took what they should; the sampler lost one reading in fifty."""
    until = seconds * SECOND_NS
    shared = {"from_ns": 0, "until_ns": until}
    return [
        shared
        | {"collector": "memray_heap", "expected": None, "taken": seconds * 480, "lost": 0, "stopped_ns": 9_000_000},
        shared | {"collector": "process_stats", "expected": seconds + 1, "taken": seconds + 1, "lost": 0},
        shared | {"collector": "pyspy_stacks", "expected": seconds * 50, "taken": seconds * 49, "lost": seconds},
        shared | {"collector": "gc_pauses", "expected": 2 * seconds, "taken": 2 * seconds, "lost": 0, "cost_ns": 9_000},
        shared | {"collector": "pool_events", "expected": seconds * 20, "taken": seconds * 20, "lost": 0},
        shared | {"collector": "load", "pid": None, "expected": seconds * 20, "taken": seconds * 20, "lost": 0},
    ]


def _table(name: str, rows: Iterable[Row], symbols: Symbols, pid: int) -> pa.Table:
    """Return the rows as the table `name`; stacks and threads are numbered by `symbols`."""
    contract = TABLES[name]
    return contract.from_rows([_numbered(row, symbols, pid, "pid" in contract) for row in rows])


def _numbered(row: Row, symbols: Symbols, pid: int, has_pid: bool) -> dict[str, Any]:
    """Return a row with ids in place of stacks and thread names."""
    cells = dict(row)
    if "taken_stack" in cells:
        cells["taken_stack_id"] = symbols.stack([symbols.frame(*frame) for frame in cells.pop("taken_stack")])
    if "stack" in cells:
        cells["stack_id"] = symbols.stack([symbols.frame(*frame) for frame in cells.pop("stack")])
    if "thread" in cells:
        name = cells.pop("thread")
        cells["thread_id"] = symbols.thread(cells.pop("pid", pid), name, name=name)
    if has_pid:
        cells.setdefault("pid", pid)
    return cells
