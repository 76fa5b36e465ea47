"""Where living objects were allocated: addresses of the last object graph joined with memray's allocations.

It records nothing itself: it reads what `memray_heap` and `object_graph` recorded of the same
process, so its `decode` is the one that looks into other collectors' raw folders. The last
snapshot of the graph is taken right after memray's capture ends, so an address means the same in both.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording, collectors
from perfkit.symbols import Symbols

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_PROBE_FILE = "<perfkit probe>"
_CHUNK = 1 << 16
_OFFSETS = (32, 16, 0)
"""Bytes before an object that belong to its allocation: the collector's header, and two pointers for attributes.

Which of them depends on type and version; the one that fits most objects of a type is right.
"""


@dataclass(frozen=True)
class ObjectSites:
    """Finds the allocation stack of objects that were allocated while memray was watching.

    Options: `max_seconds` how long the decoder may read memray's file, half a microsecond per
    allocation; what was allocated after that point is left out.
    """

    name: str = "object_sites"
    group: str = "heap"
    on_request: bool = True
    writes: tuple[str, ...] = ("object_sites",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"max_seconds": 60.0})

    def problem(self, target: Target) -> Exception | None:
        """Return why memray or the object graph cannot work on the target, or None; touches nothing in it."""
        known = collectors()
        return known["memray_heap"].problem(target) or known["object_graph"].problem(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Record nothing: the other two collectors do."""
        yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return object_sites and the row of recording_quality."""
        from perfkit.raw.graph_file import read_graph
        from perfkit.tables import OBJECT_SITES, RECORDING_QUALITY

        here = raw.folder.parent.parent
        capture = here / "memray_heap" / str(raw.pid) / "heap.bin"
        files = sorted((here / "object_graph" / str(raw.pid)).glob("graph-*.bin"))
        sites, notes = OBJECT_SITES.empty(), []
        graph = read_graph(files[-1], raw.pid, int(files[-1].stem.rpartition("-")[2])) if files else None
        if graph is None or not graph.complete:
            notes.append("There is no object graph to join allocations with.")
        elif not capture.exists():
            notes.append("There is no memray capture to join objects with.")
        else:
            try:
                sites, note = _join(capture, graph.objects, raw)
                notes.append(note)
            except (OSError, ValueError, RuntimeError) as error:
                notes.append(f"The capture of memray cannot be read: {error}.")
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": 0,
            "until_ns": raw.until_ns,
            "expected": None,  # objects older than the capture have no site, and that is no loss
            "taken": sites.num_rows,
            "lost": 0,
            "note": " ".join(note for note in notes if note) or None,
        }
        return {"object_sites": sites, "recording_quality": RECORDING_QUALITY.from_rows([quality])}


def _join(capture: Path, objects: "pa.Table", raw: Raw) -> tuple["pa.Table", str]:
    """Return object_sites and what to note."""
    import memray
    import numpy as np

    from perfkit.tables import OBJECT_SITES

    with memray.FileReader(capture, max_memory_records=1) as reader:
        addresses, stacks, examples, is_whole = _last_allocations(reader, _limit_s())
        ids = objects["object_id"].to_numpy()
        types = objects["type"].combine_chunks().dictionary_encode().indices.to_numpy()
        found = match(ids, types, addresses, stacks)
        numbers = {number: _stack(examples[number], raw.symbols) for number in np.unique(found[found > 0]).tolist()}
    known = np.array([numbers.get(number) is not None for number in found.tolist()], bool)
    rung = objects["rung"][0].as_py() if len(objects) else 0
    table = OBJECT_SITES.from_columns(
        {
            "pid": np.full(known.sum(), raw.pid, np.int32),
            "rung": np.full(known.sum(), rung, np.int32),
            "object_id": ids[known],
            "stack_id": np.array([numbers[number] for number in found[known].tolist()], np.int32),
        }
    )
    note = (
        f"{table.num_rows} of {len(ids)} objects have a site. Those that were allocated before the capture have none;"
        " small lists, tuples, dicts and floats that the interpreter reuses have that of whom it allocated them for."
    )
    return table, note if is_whole else f"Only the first {_limit_s():g} s of reading were used. {note}"


def _limit_s() -> float:
    """Return how long memray's file may be read."""
    return float(ObjectSites().options["max_seconds"])


def match(ids: "Ints", types: "Ints", addresses: "Ints", stacks: "Ints") -> "Ints":
    """Return the stack of each object, 0 where no allocation is known.

    An object starts some bytes into its allocation. How many is decided by type: the offset at
    which most of its objects meet an allocation.

    Args:
        ids: n addresses of objects.
        types: n numbers of their types.
        addresses: m addresses of allocations, increasing.
        stacks: m numbers of their stacks, all above 0.

    Returns:
        n numbers of stacks.
    """
    import numpy as np

    found = np.zeros(len(ids), np.int64)
    if not len(addresses) or not len(ids):
        return found
    kinds = int(types.max()) + 1
    answers, hits = [], []
    for offset in _OFFSETS:
        place = np.minimum(np.searchsorted(addresses, ids - offset), len(addresses) - 1)
        hit = addresses[place] == ids - offset
        answers.append(np.where(hit, stacks[place], 0))
        hits.append(np.bincount(types[hit], minlength=kinds))
    best = np.argmax(np.stack(hits), axis=0)[types]
    for number, answer in enumerate(answers):
        found = np.where(best == number, answer, found)
    return found


def _last_allocations(reader: Any, limit_s: float) -> tuple["Ints", "Ints", dict[int, Any], bool]:
    """Return the addresses of the last allocation at each place, sorted, their stacks, a record of each stack.

    The last answer is whether the file was read to its end.
    """
    import numpy as np

    until = time.monotonic() + limit_s
    last: dict[int, int] = {}
    examples: dict[int, Any] = {}
    records = reader.get_allocation_records()
    both, stack_of = attrgetter("address", "stack_id"), attrgetter("stack_id")
    is_whole = False
    while time.monotonic() < until:
        chunk = list(islice(records, _CHUNK))
        if not chunk:
            is_whole = True
            break
        last.update(map(both, chunk))
        new = dict(zip(map(stack_of, chunk), chunk, strict=True))
        for number in new.keys() - examples.keys():
            examples[number] = new[number]
    addresses = np.fromiter(last.keys(), np.int64, len(last))
    stacks = np.fromiter(last.values(), np.int64, len(last))
    # What was freed last, or allocated without a stack, has none.
    addresses, stacks = addresses[stacks > 0], stacks[stacks > 0]
    order = np.argsort(addresses)
    return addresses[order], stacks[order], examples, is_whole


def _stack(record: Any, symbols: Symbols) -> int | None:
    """Return the number of an allocation's stack, None for the probe's own."""
    trace = record.stack_trace()
    if not trace or any(file == _PROBE_FILE for _function, file, _line in trace):
        return None
    return symbols.stack([symbols.frame(function, file, line) for function, file, line in reversed(trace)])


COLLECTOR = ObjectSites()
