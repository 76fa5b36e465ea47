"""The only place that says what a profile contains: every table, its columns, their units.

Collectors write these tables, analyses read them, and nobody imports anybody else. All
times are int64 nanoseconds since the recording began; NULL means *unknown*, never *false*.
No unsigned integers and no nanosecond timestamp type: other engines reject them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

SCHEMA = 1
"""Version of the table contract. Readers accept this one and every older one."""

UNITS = ("", "ns", "bytes", "objects", "count", "ratio", "percent", "1/s")


@dataclass(frozen=True, slots=True)
class Column:
    """One named value of a table.

    `unit` equals the suffix of the name for times and sizes. `nullable` columns may be
    NULL (unknown). `encoding` overrides how Parquet stores the column.
    """

    name: str
    type: pa.DataType
    doc: str
    unit: str = ""
    nullable: bool = False
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A named table: what one row means and which columns it has."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    order: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the table, with the documentation of each column as metadata."""
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=c.nullable, metadata={"doc": c.doc, "unit": c.unit})
                for c in self.columns
            ],
            metadata={"table": self.name, "doc": self.doc},
        )

    def empty(self) -> pa.Table:
        """Return the table with no rows."""
        return self.schema.empty_table()

    def from_rows(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Return the table made of one mapping per row; absent nullable columns become NULL.

        Raises:
            pyarrow.ArrowInvalid: a value does not fit its column.
            KeyError: a row has a name that is not a column, or lacks a column that may not be NULL.
        """
        columns: dict[str, list[Any]] = {c.name: [] for c in self.columns}
        optional = {c.name for c in self.columns if c.nullable}
        for row in rows:
            if unknown := row.keys() - columns.keys():
                raise KeyError(f"{self.name} has no column {sorted(unknown)}")
            for name, values in columns.items():
                values.append(row.get(name) if name in optional else row[name])
        return self.from_columns(columns)

    def from_columns(self, columns: Mapping[str, Any]) -> pa.Table:
        """Return the table made of one sequence or array per column, in the table's order.

        Raises:
            KeyError: a column is missing that may not be NULL, or one is given that is not a column.
            pyarrow.ArrowInvalid: a value does not fit its column, or is NULL where it may not be.
        """
        if unknown := [name for name in columns if name not in self]:
            raise KeyError(f"{self.name} has no column {sorted(unknown)}")
        rows = len(next(iter(columns.values()))) if columns else 0
        arrays = []
        for c in self.columns:
            if c.name not in columns and not c.nullable:
                raise KeyError(f"{self.name} needs the column {c.name!r}")
            values = columns.get(c.name)
            array = pa.nulls(rows, c.type) if values is None else _as_array(values, c.type)
            if not c.nullable and array.null_count:
                raise pa.ArrowInvalid(f"{self.name}.{c.name} may not be NULL")
            arrays.append(array)
        return self.sorted(pa.Table.from_arrays(arrays, schema=self.schema))

    def sorted(self, table: pa.Table) -> pa.Table:
        """Return `table` in the order that rows of this table are stored in."""
        if not self.order or _is_sorted(table.select(self.order)):
            return table
        return table.sort_by([(name, "ascending") for name in self.order])

    def conform(self, table: pa.Table) -> pa.Table:
        """Return a table of an older schema in today's form: new columns are NULL, gone ones dropped.

        Raises:
            KeyError: it lacks a column that may not be NULL.
        """
        return self.from_columns({name: table[name] for name in table.column_names if name in self})

    def __contains__(self, column: str) -> bool:
        return any(c.name == column for c in self.columns)


def _as_array(values: Any, type_: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return `values` as an Arrow array of `type_`."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(type_)
    return pa.array(values, type_)


def _is_sorted(keys: pa.Table) -> bool:
    """Return whether rows of numbers are in order: finding out is quick, sorting a whole heap is not."""
    if keys.num_rows < 2:
        return True
    if not all(pa.types.is_integer(key.type) and not key.null_count for key in keys.columns):
        return False
    undecided = None
    for key in keys.columns:
        values = key.to_numpy()
        before, after = values[:-1], values[1:]
        wrong, equal = before > after, before == after
        if (wrong if undecided is None else wrong & undecided).any():
            return False
        undecided = equal if undecided is None else equal & undecided
    return True


def _time(name: str, doc: str, *, nullable: bool = False) -> Column:
    """Return a time column: nanoseconds since the recording began, or a length of time."""
    return Column(name, pa.int64(), doc, "ns", nullable, "DELTA_BINARY_PACKED")


def _bytes(name: str, doc: str, *, nullable: bool = False) -> Column:
    """Return a column of bytes."""
    return Column(name, pa.int64(), doc, "bytes", nullable)


def _count(name: str, doc: str, *, nullable: bool = False) -> Column:
    """Return a column of counts."""
    return Column(name, pa.int64(), doc, "count", nullable)


_PID = Column("pid", pa.int32(), "process id of the target")
_AT = _time("at_ns", "when it was read")

FRAMES = Table(
    "frames",
    "One row per distinct place in the code, shared by every table that has stacks.",
    (
        Column("frame_id", pa.int32(), "number of the frame in this profile"),
        Column("frame_hash", pa.int64(), "content hash of function, file and line: equal across recordings and hosts"),
        Column("function_hash", pa.int64(), "content hash of function and file, without the line"),
        Column("function", pa.string(), "name of the function"),
        Column("module", pa.string(), "dotted module, derived from the file", nullable=True),
        Column("file", pa.string(), "path with site-packages, standard library and home folder cut off", nullable=True),
        Column("line", pa.int32(), "line number", nullable=True),
        Column("kind", pa.string(), "python, native, library (site-packages), stdlib, interpreter or synthetic"),
    ),
    ("frame_id",),
)
STACKS = Table(
    "stacks",
    "One row per distinct call stack.",
    (
        Column("stack_id", pa.int32(), "number of the stack in this profile"),
        Column("stack_hash", pa.int64(), "content hash of the frames: equal across recordings and hosts"),
        Column("depth", pa.int32(), "number of frames", "count"),
        Column("leaf_frame_id", pa.int32(), "innermost frame"),
        Column("frame_ids", pa.list_(pa.int32()), "frames from root to leaf"),
    ),
    ("stack_id",),
)
STACK_FRAMES = Table(
    "stack_frames",
    "One row per frame of each stack: a bridge, so that inclusive time is a plain join.",
    (
        Column("stack_id", pa.int32(), "stack"),
        Column("pos", pa.int32(), "position in the stack, 0 is the root"),
        Column("frame_id", pa.int32(), "frame"),
        Column("is_first", pa.bool_(), "first time this frame is on this stack: filter on it to count recursion once"),
    ),
    ("stack_id", "pos"),
)
THREADS = Table(
    "threads",
    "One row per thread seen.",
    (
        Column("thread_id", pa.int32(), "number of the thread in this profile"),
        _PID,
        Column("os_tid", pa.int64(), "thread id of the operating system", nullable=True),
        Column("name", pa.string(), "name of the thread", nullable=True),
    ),
    ("thread_id",),
)
CPU_SAMPLES = Table(
    "cpu_samples",
    "One row per thread and tick of the sampling profiler: where the thread was, on CPU or waiting.",
    (
        _time("tick_ns", "time of the sample"),
        Column("thread_id", pa.int32(), "thread"),
        Column("stack_id", pa.int32(), "call stack"),
        _time("weight_ns", "time this sample stands for: until the next sample of its thread"),
        Column("active", pa.bool_(), "the thread was running, not waiting", nullable=True),
        Column("has_gil", pa.bool_(), "the thread held the GIL", nullable=True),
    ),
    ("tick_ns", "thread_id"),
)
HEAP_SURVIVAL = Table(
    "heap_survival",
    "Allocations of one stack that were made in one interval and freed in another, or not freed while it was recorded.",
    (
        _PID,
        Column("stack_id", pa.int32(), "allocation stack"),
        _time("allocated_ns", "end of the interval in which they were allocated"),
        _time("freed_ns", "end of the interval in which they were freed; NULL: alive at the end", nullable=True),
        _count("allocations", "number of allocations"),
        _bytes("size_bytes", "their size"),
    ),
    ("pid", "allocated_ns", "stack_id"),
)
HEAP_USAGE = Table(
    "heap_usage",
    "Size of the traced heap over time, as the allocation tracer saw it.",
    (
        _PID,
        _AT,
        _bytes("rss_bytes", "resident set size"),
        _bytes("traced_bytes", "bytes allocated since tracing began and not freed"),
    ),
    ("pid", "at_ns"),
)
MEMORY_LEDGER = Table(
    "memory_ledger",
    "What the resident memory of the process consists of.",
    (
        _PID,
        _AT,
        _bytes("rss_bytes", "resident set size"),
        _bytes("anon_bytes", "anonymous resident memory (RssAnon)"),
        _bytes("file_bytes", "file-backed resident memory (RssFile)"),
        _bytes("shmem_bytes", "shared resident memory (RssShmem)"),
        _count("python_blocks", "sys.getallocatedblocks()", nullable=True),
        _bytes("pymalloc_arena_bytes", "pymalloc arenas: memory for objects of up to 512 bytes", nullable=True),
        _bytes("pymalloc_in_use_bytes", "blocks in pymalloc arenas that are in use", nullable=True),
        _bytes("pymalloc_free_bytes", "free blocks and pools in pymalloc arenas", nullable=True),
        _bytes("glibc_in_use_bytes", "mallinfo2 uordblks + hblkhd", nullable=True),
        _bytes("glibc_retained_bytes", "mallinfo2 fordblks: freed, but kept by the allocator", nullable=True),
        _bytes("cgroup_bytes", "memory.current of the process's cgroup", nullable=True),
        _bytes("cgroup_inactive_file_bytes", "page cache the kernel can drop", nullable=True),
        _bytes("cgroup_limit_bytes", "memory.max, NULL when unlimited", nullable=True),
    ),
    ("pid", "at_ns"),
)
PROCESS_STATS = Table(
    "process_stats",
    "CPU time, threads, descriptors and I/O of the process, read from /proc.",
    (
        _PID,
        _AT,
        _time("cpu_user_ns", "user CPU time since the process began"),
        _time("cpu_system_ns", "system CPU time since the process began"),
        _count("threads", "threads"),
        _count("descriptors", "open descriptors", nullable=True),
        _count("voluntary_switches", "context switches while waiting, since the process began", nullable=True),
        _count("involuntary_switches", "context switches forced by the scheduler", nullable=True),
        _count("minor_faults", "page faults without I/O, since the process began"),
        _count("major_faults", "page faults with I/O, since the process began"),
    ),
    ("pid", "at_ns"),
)
DESCRIPTORS = Table(
    "descriptors",
    "Open descriptors of the process at a reading, by what they are.",
    (
        _PID,
        _AT,
        Column("kind", pa.string(), "file, directory, device, memfd, socket, pipe, eventpoll, eventfd, ..."),
        Column(
            "name",
            pa.string(),
            "path with numbers replaced by #; protocol and peer of a socket; NULL: it has none, or is not connected",
            nullable=True,
        ),
        Column("state", pa.string(), "state of a TCP connection, or deleted", nullable=True),
        _count("descriptors", "how many of them"),
    ),
    ("pid", "at_ns", "kind"),
)
OBJECT_CENSUS = Table(
    "object_census",
    "Living objects by type, counted at one rung.",
    (
        _PID,
        _AT,
        Column("rung", pa.int32(), "number of the census, from 0"),
        Column("type", pa.string(), "module.qualname of the type"),
        _count("objects", "number of objects the collector tracks"),
        _bytes("size_bytes", "sum of their shallow sizes (sys.getsizeof)", nullable=True),
    ),
    ("pid", "rung", "type"),
)
CONTAINER_SIZES = Table(
    "container_sizes",
    "Length of each container that is among the largest or the fastest growing, at one rung.",
    (
        _PID,
        _AT,
        Column("rung", pa.int32(), "number of the census, from 0"),
        Column("container", pa.string(), "identity of the container within the process"),
        Column("type", pa.string(), "module.qualname of the container's type"),
        _count("items", "its length: items, or bytes of a bytearray or BytesIO, characters of a StringIO"),
        Column("item_type", pa.string(), "most frequent type among its newest items", nullable=True),
        Column("owner", pa.string(), "path from a module to it, steps joined by ' > '; NULL: not found", nullable=True),
        _count(
            "limit_items",
            "most it will hold: maxlen, maxsize or the like; 0: it says that it has no limit; NULL: none was found",
            nullable=True,
        ),
        _count("inner_items", "sum of the lengths of the containers in it; NULL: not looked at", nullable=True),
    ),
    ("pid", "rung", "container"),
)
CONTAINER_CODE = Table(
    "container_code",
    "A line of the target's code that deals with a growing container, from bytecode; none of it need have run.",
    (
        _PID,
        Column("container", pa.string(), "identity of the container, as in container_sizes"),
        Column(
            "role",
            pa.string(),
            "inserts; removes: by a key or value that is given; evicts: any, the oldest, or all; bounds: compares its "
            "length with a limit and evicts or refuses; expires: takes out what is too old",
        ),
        Column("function", pa.string(), "qualified name of the function"),
        Column("file", pa.string(), "path as in frames"),
        Column("line", pa.int32(), "line of the instruction"),
        _count("limit_items", "limit of a bound; NULL: not known, or not in items", nullable=True),
        Column("ttl_s", pa.float64(), "age in seconds at which it is taken out; NULL: not known", "", nullable=True),
        Column(
            "same_class",
            pa.bool_(),
            "whether it surely is this container: in a method of its owner's class, or by a name that leads to it; "
            "false: an attribute of that name of an object that is not known",
        ),
        Column(
            "has_run",
            pa.bool_(),
            "whether the line has run since the program began; NULL: cannot be seen (before 3.12, some lines)",
            nullable=True,
        ),
    ),
    ("pid", "container", "role", "function", "line"),
)
GC_PAUSES = Table(
    "gc_pauses",
    "One row per garbage collection, from `gc.callbacks`: nothing is sampled.",
    (
        _PID,
        _time("start_ns", "start of the collection"),
        _time("pause_ns", "time from the start to the stop callback, finalizers and weakref callbacks included"),
        _time("cpu_ns", "CPU time of it: less when the thread had to wait for a CPU, or slept", nullable=True),
        Column("generation", pa.int8(), "collected generation: 0, 1 or 2"),
        _count("collected", "objects freed"),
        _count("uncollectable", "objects found unreachable that could not be freed"),
        _count("candidates", "objects that were looked at, where the interpreter tells (3.15)", nullable=True),
        Column("manual", pa.bool_(), "somebody called gc.collect()", nullable=True),
        Column("stack_id", pa.int32(), "who called gc.collect(), or what allocated when it began", nullable=True),
        Column("os_tid", pa.int64(), "thread it ran in", nullable=True),
    ),
    ("pid", "start_ns"),
)
GC_COUNTS = Table(
    "gc_counts",
    "The collector's counters, sampled: where they stop rising is the knee.",
    (
        _PID,
        _AT,
        _count("count0", "allocations minus deallocations since the last collection of generation 0"),
        _count("count1", "collections of generation 0 since the last one of generation 1"),
        _count("count2", "collections of generation 1 since the last one of generation 2"),
        Column("frozen_objects", pa.int64(), "objects in the permanent generation", "objects", nullable=True),
    ),
    ("pid", "at_ns"),
)
GARBAGE = Table(
    "garbage",
    "Unreachable objects that one look found among the newest ones, by kind: what waits for the collector.",
    (
        _PID,
        _AT,
        Column("generation", pa.int8(), "generation that was looked at"),
        _count("examined", "objects that were looked at, alive or not"),
        Column("type", pa.string(), "module.qualname of the type; NULL: this look found nothing", nullable=True),
        Column("objects", pa.int64(), "unreachable objects of this kind", "objects"),
        _bytes("size_bytes", "their size, with what only they hold and the collector does not track"),
        _count("descriptors", "open sockets and files among them"),
        Column("stack_id", pa.int32(), "their constructor, or the code of a function or generator", nullable=True),
    ),
    ("pid", "at_ns", "type"),
)
EXPERIMENT_WINDOWS = Table(
    "experiment_windows",
    "One row per window of an experiment: which setting was tried when; what counts lies between the two times.",
    (
        _PID,
        _time("from_ns", "start of what counts: after the change of the setting and a while to settle"),
        _time("until_ns", "end of the window"),
        Column("phase", pa.string(), "noise: the present setting against itself; trial: settings against each other"),
        Column("block", pa.int32(), "each block has every setting once, in random order"),
        Column("setting", pa.string(), "name of the setting"),
        Column("read_back", pa.string(), "the settings as the process had them at the end of the window, as JSON"),
    ),
    ("pid", "from_ns"),
)
TASKS = Table(
    "tasks",
    "asyncio tasks at a reading, by coroutine and the place where they wait.",
    (
        _PID,
        _AT,
        Column("coroutine", pa.string(), "qualified name of the task's coroutine"),
        Column("state", pa.string(), "waiting, ready, running or done"),
        _count("tasks", "how many of them"),
        _time("oldest_ns", "time since the oldest of them was first seen"),
        Column("stack_id", pa.int32(), "where they wait, outermost frame first", nullable=True),
    ),
    ("pid", "at_ns", "coroutine", "state"),
)
PYTHON_THREADS = Table(
    "python_threads",
    "Threads at a reading, by what they run, where they are, and who started them.",
    (
        _PID,
        _AT,
        Column("name", pa.string(), "name of the thread, numbers in it replaced by #; [native]: it runs no Python"),
        Column("function", pa.string(), "module.qualname of what it was started to run", nullable=True),
        Column("daemon", pa.bool_(), "the process does not wait for it to end", nullable=True),
        _count("threads", "how many of them"),
        _time("oldest_ns", "time since the oldest of them was first seen"),
        Column("stack_id", pa.int32(), "where they are", nullable=True),
        Column("start_stack_id", pa.int32(), "who started them; NULL: before the recording began", nullable=True),
    ),
    ("pid", "at_ns", "name"),
)
LOOP_LAG = Table(
    "loop_lag",
    "How late the event loop ran a callback that was due.",
    (
        _PID,
        _AT,
        _time("lag_ns", "time from when it was due until it ran"),
        Column("loop", pa.string(), "class of the event loop"),
    ),
    ("pid", "at_ns"),
)
HEAP_SNAPSHOTS = Table(
    "heap_snapshots",
    "One row per snapshot of the heap.",
    (
        _PID,
        Column("rung", pa.int32(), "number of the snapshot, from 0"),
        _AT,
        Column("mode", pa.string(), "copy: of one moment; slices: taken while the target went on"),
        _count("objects", "objects in it"),
        _count("references", "references in it"),
        _bytes("size_bytes", "sum of the shallow sizes of the objects"),
        _time("stopped_ns", "time the target was stopped for it"),
    ),
    ("pid", "rung"),
)
HEAP_OBJECTS = Table(
    "heap_objects",
    "Every object of one snapshot of the heap.",
    (
        _PID,
        Column("rung", pa.int32(), "number of the snapshot, from 0"),
        Column("object_id", pa.int64(), "address of the object", encoding="DELTA_BINARY_PACKED"),
        Column("type", pa.string(), "module.qualname of the type"),
        _bytes("size_bytes", "shallow size (sys.getsizeof)"),
        _count("refcount", "reference count; NULL: immortal or unknown", nullable=True),
        _count("items", "length of a container", nullable=True),
        Column(
            "root",
            pa.string(),
            "why it is a root of the heap: module, frame, task, ...; NULL: it is not",
            nullable=True,
        ),
        Column("name", pa.string(), "name of a module, class, function, thread or coroutine", nullable=True),
    ),
    ("pid", "rung", "object_id"),
)
HEAP_REFERENCES = Table(
    "heap_references",
    "Every reference of one snapshot of the heap.",
    (
        _PID,
        Column("rung", pa.int32(), "number of the snapshot, from 0"),
        Column("from_id", pa.int64(), "object that refers", encoding="DELTA_BINARY_PACKED"),
        Column("to_id", pa.int64(), "object that is referred to"),
        Column("label", pa.string(), "attribute, key, index, frame local or closure; NULL: not named", nullable=True),
    ),
    ("pid", "rung", "from_id"),
)
OBJECT_SITES = Table(
    "object_sites",
    "Where a living object was allocated: its address joined with the allocation tracer's.",
    (
        _PID,
        Column("rung", pa.int32(), "number of the snapshot, from 0"),
        Column("object_id", pa.int64(), "address of the object", encoding="DELTA_BINARY_PACKED"),
        Column("stack_id", pa.int32(), "allocation stack"),
    ),
    ("pid", "rung", "object_id"),
)
_ENDS = (
    Column("local", pa.string(), "its own address and port"),
    Column("peer", pa.string(), "address and port of the other side; port 0: none"),
    Column(
        "role",
        pa.string(),
        "listening; downstream: accepted on a port that the process listens on; upstream: it connected itself",
    ),
)
SOCKETS = Table(
    "sockets",
    "State of each TCP socket of the process, one row per change: it holds until the socket's next row, or its death.",
    (
        _PID,
        _AT,
        Column("cookie", pa.int64(), "the kernel's number of the socket, never used twice"),
        *_ENDS,
        Column("state", pa.string(), "established, close_wait, fin_wait1, ..., listening"),
        _bytes("recv_q_bytes", "received and not read by the process; of a listener: connections to be accepted"),
        _bytes("send_q_bytes", "sent and not acknowledged by the peer; of a listener: its backlog"),
        Column("timer", pa.string(), "timer that runs: retransmit, keepalive, zero_window_probe", nullable=True),
        _time("timer_ns", "time until it fires", nullable=True),
        Column("inode", pa.int64(), "inode; 0: closed by the process, or not accepted by it yet"),
        Column("descriptor", pa.int32(), "number in the process's descriptor table", nullable=True),
        _time("last_sent_ns", "time since it last sent data", nullable=True),
        _time("last_received_ns", "time since it last received data", nullable=True),
        _bytes("sent_bytes", "data sent since it was opened", nullable=True),
        _bytes("received_bytes", "data received since it was opened", nullable=True),
        _count("segments_out", "segments with data sent since it was opened", nullable=True),
        _count("segments_in", "segments with data received since it was opened", nullable=True),
        _count("unacked", "segments sent and not acknowledged", nullable=True),
        _count("retransmits", "segments sent again since it was opened", nullable=True),
        _time("rtt_ns", "smoothed round-trip time", nullable=True),
    ),
    ("pid", "at_ns", "cookie"),
)
SOCKET_EVENTS = Table(
    "socket_events",
    "Births and deaths of the process's TCP sockets, and other processes found to hold them.",
    (
        _PID,
        _time("at_ns", "when it happened, or the latest it can have happened"),
        _time("earliest_ns", "the earliest it can have happened; equal to at_ns: known exactly"),
        Column("cookie", pa.int64(), "socket"),
        Column(
            "event",
            pa.string(),
            "found: older than the recording; birth; death; shared: another process holds it; used: a process that "
            "shares it, this one or another, waits on it in a system call",
        ),
        *_ENDS,
        Column(
            "seen_by",
            pa.string(),
            "dump: comparing readings; destroy: the kernel told it; time_wait: found resting; descriptors: in /proc",
        ),
        Column(
            "owner",
            pa.string(),
            "why it is taken for the process's: descriptor; port: it listens there; peer: nobody else talks to it",
        ),
        Column("closer", pa.string(), "who closed first: local or peer; NULL: unknown", nullable=True),
        _time("idle_ns", "time from its last data to its death", nullable=True),
        _bytes("sent_bytes", "data sent in its whole life", nullable=True),
        _bytes("received_bytes", "data received in its whole life", nullable=True),
        _count("segments_out", "segments with data sent in its whole life", nullable=True),
        _count("segments_in", "segments with data received in its whole life", nullable=True),
        _count("retransmits", "segments sent again in its whole life", nullable=True),
        Column(
            "other_pid", pa.int32(), "process that holds it or waits on it, for events shared and used", nullable=True
        ),
    ),
    ("pid", "at_ns", "cookie", "event"),
)
SOCKET_COUNTERS = Table(
    "socket_counters",
    "The kernel's TCP counters. They are of the whole network namespace, which other processes may share.",
    (
        _PID,
        _AT,
        _count("active_opens", "connections opened in the namespace (ActiveOpens)"),
        _count("passive_opens", "connections accepted in the namespace (PassiveOpens)"),
        _count("seen_born", "connections of the namespace of which this recording saw the birth or the death"),
        _count("attempt_fails", "attempts to connect that failed (AttemptFails)", nullable=True),
        _count("resets", "connections reset (EstabResets)", nullable=True),
        _count("established", "connections that are up (CurrEstab)", nullable=True),
        _count("time_wait", "connections that rest in TIME_WAIT", nullable=True),
        _count("orphans", "connections closed by their process and not ended yet", nullable=True),
        _count("retransmits", "segments sent again (RetransSegs)", nullable=True),
        _count("listen_overflows", "connections that no backlog had room for (ListenOverflows)", nullable=True),
        _count("tcp_sockets", "TCP sockets that the process has descriptors of"),
        _count("unix_sockets", "unix sockets that the process has descriptors of"),
        _count("other_sockets", "sockets of other kinds that it has descriptors of"),
    ),
    ("pid", "at_ns"),
)
REQUESTS = Table(
    "requests",
    "One row per request of the load generator.",
    (
        _time("intended_ns", "when the schedule wanted it to start"),
        _time("start_ns", "when it was sent"),
        _time("latency_ns", "from the intended start to the last byte of the answer"),
        Column("status", pa.int32(), "HTTP status; NULL: no answer", nullable=True),
        Column(
            "error",
            pa.string(),
            "what went wrong: connect, no_connection, timeout, reset, protocol; aborted: the load's client gave it up"
            " on purpose; unfinished: the load ended first; exhausted: the load had no port or descriptor left",
            nullable=True,
        ),
        Column("route", pa.string(), "name of the request in the load's mix"),
        Column("method", pa.string(), "HTTP method"),
        Column("trace_id", pa.string(), "W3C trace id that was sent", nullable=True),
        _bytes("sent_bytes", "bytes of the request's body"),
        _bytes("received_bytes", "bytes of the answer's body"),
        Column("reused", pa.bool_(), "an open connection was used again", nullable=True),
        _time(
            "dispatched_ns", "when the load turned to it: later than intended is the load's own fault", nullable=True
        ),
    ),
    ("intended_ns",),
)
EVENTS = Table(
    "events",
    "Things that happened while it was recorded: marks, faults switched, processes that came or went.",
    (
        _AT,
        _time("duration_ns", "how long it lasted; 0: an instant"),
        Column("kind", pa.string(), "recorder, target, load, fault or mark"),
        Column("name", pa.string(), "what happened"),
        Column("pid", pa.int32(), "process it happened to", nullable=True),
    ),
    ("at_ns", "name"),
)
POOL_EVENTS = Table(
    "pool_events",
    "What happened to connections and to those who wanted one, from hooks in the pool's own code: nothing is sampled.",
    (
        _PID,
        _AT,
        Column("pool", pa.string(), "library and name of the pool"),
        Column("connection", pa.int64(), "number of the connection, from one connect to its close", nullable=True),
        Column(
            "event",
            pa.string(),
            "found, found_in_use (before the recording), created, acquired, released, closed; collected: freed or given"
            " back by the interpreter instead of the program; timeout, cancelled, failed: no connection was had;"
            " waiting: somebody waits since then and longer than 0.1 s",
        ),
        _time("wait_ns", "time from the wish for a connection to this event", nullable=True),
        _time("held_ns", "time for which the connection was lent", nullable=True),
        Column("holder", pa.int64(), "number of the task, or thread, that asked for it", nullable=True),
        Column("stack_id", pa.int32(), "who asked for it, without the pool's own frames", nullable=True),
        _count("active_frames", "frames of the program that asked for it and had not returned", nullable=True),
        Column("local", pa.string(), "own address of its socket", nullable=True),
        Column("peer", pa.string(), "address it is connected to", nullable=True),
    ),
    ("pid", "at_ns", "pool"),
)
POOL_STATES = Table(
    "pool_states",
    "Gauges of each connection pool, read from its own attributes.",
    (
        _PID,
        _AT,
        Column("pool", pa.string(), "library and name of the pool"),
        _count("max", "connections it may have; NULL: no limit", nullable=True),
        _count("open", "connections, or slots that stand for one", nullable=True),
        _count("in_use", "those that are lent", nullable=True),
        _count("idle", "those that are not", nullable=True),
        _count("waiting", "how many wait for one", nullable=True),
        _count("ghosts", "slots taken by nobody, with no connection in them", nullable=True),
        _count("sockets", "connections in the pool's own lists that have an open socket", nullable=True),
    ),
    ("pid", "at_ns", "pool"),
)
POOL_HOLDERS = Table(
    "pool_holders",
    "What those do who have a connection at a reading; of many, the oldest and the youngest uses.",
    (
        _PID,
        _AT,
        Column("pool", pa.string(), "library and name of the pool"),
        Column("connection", pa.int64(), "number of the connection"),
        Column("holder", pa.int64(), "number of the task or thread that took it", nullable=True),
        _time("held_ns", "for how long it has had it"),
        Column("taken_stack_id", pa.int32(), "who took it, without the pool's own frames", nullable=True),
        Column("finished", pa.bool_(), "the task or thread that took it has ended", nullable=True),
        _count("frames", "frames of the program that took it", nullable=True),
        _count("active_frames", "those of them that have not returned", nullable=True),
        _time("silent_ns", "time since data went over its socket in either direction", nullable=True),
        Column("answered", pa.bool_(), "the last data came from the peer: nothing is being waited for", nullable=True),
        _bytes("unread_bytes", "bytes that its socket has received and nobody has read", nullable=True),
        Column("stack_id", pa.int32(), "where its holder is now", nullable=True),
    ),
    ("pid", "at_ns", "pool", "connection"),
)
SETTINGS = Table(
    "settings",
    "Settings of the target as they were read, again whenever one changes.",
    (
        _PID,
        _AT,
        Column("name", pa.string(), "dotted name of the setting"),
        Column("value", pa.string(), "its value as JSON"),
    ),
    ("pid", "at_ns", "name"),
)
RECORDING_QUALITY = Table(
    "recording_quality",
    "How complete the data of each collector is, and what it cost the target.",
    (
        Column("collector", pa.string(), "name of the collector"),
        Column("pid", pa.int32(), "process it watched; NULL: the load", nullable=True),
        _time("from_ns", "start of what it covered"),
        _time("until_ns", "end of what it covered"),
        _count("expected", "readings it should have taken", nullable=True),
        _count("taken", "readings it took"),
        _count("lost", "readings it knows it lost"),
        _time("stopped_ns", "time the target was stopped for it", nullable=True),
        _time("cost_ns", "CPU time it used inside the target", nullable=True),
        Column("note", pa.string(), "what is missing and why", nullable=True),
    ),
    ("collector", "pid"),
)

TABLES: dict[str, Table] = {table.name: table for table in list(globals().values()) if isinstance(table, Table)}
"""Every table by name. A profile has each of them, empty when nothing was recorded."""
