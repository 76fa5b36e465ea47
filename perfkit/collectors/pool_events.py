"""Connection pools from inside: who took which connection at which line, for how long, and how full the pools are.

The functions of the pools are watched, nothing is sampled but the gauges; see
`perfkit.probe.pools`, and `perfkit.probe.pool_adapters` for the libraries that are known.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from perfkit.attach.permission import preflight
from perfkit.attach.streams import Stream, streaming
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording
from perfkit.probe.pool_parts.book import EVENT, EVENTS

if TYPE_CHECKING:
    import pyarrow as pa

_PROBE = "pools"
_EVENT = ("at_ns", "event", "pool", "connection", "wait_ns", "held_ns", "holder", "stack_id", "active_frames")
_STATE = ("pool", "max", "open", "in_use", "idle", "waiting", "ghosts", "sockets")
_HOLDER = (
    "pool", "connection", "holder", "held_ns", "taken_stack_id", "finished", "frames", "active_frames", "silent_ns",
    "answered", "unread_bytes", "stack_id",
)  # fmt: skip


@dataclass(frozen=True)
class PoolEvents:
    """Records what happens in the connection pools of the target.

    Options: `every_s` distance of the readings of gauges and holders; `max_share`, of one CPU: the
    readings move apart before they cost more.
    """

    name: str = "pool_events"
    group: str = "pools"
    writes: tuple[str, ...] = ("pool_events", "pool_states", "pool_holders", "settings")
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 0.5, "max_share": 0.02})

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Record while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        with streaming(recording.session(), _PROBE, recording.raw, **self.parts(), **options):
            yield

    def parts(self) -> dict[str, dict[str, str]]:
        """Return the sources that the recorder in the target is made of, as its options."""
        return {"sources": _sources("pool_parts"), "adapters": _sources("pool_adapters")}

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return the tables of the pools, their settings, and the row of recording_quality."""
        from perfkit.tables import POOL_EVENTS, POOL_HOLDERS, POOL_STATES, RECORDING_QUALITY, SETTINGS

        stream = Stream.read(raw.folder)
        names = _names(stream)
        stacks = {number: _stack(flat, raw) for row in stream.rows for number, flat in row.get("stacks", ())}
        addresses = {each[0]: each[1:] for row in stream.rows for each in row.get("addresses", ())}
        at = raw.clock.from_monotonic
        events: list[dict[str, Any]] = []
        states: list[dict[str, Any]] = []
        holders: list[dict[str, Any]] = []
        settings: list[dict[str, Any]] = []
        for row in stream.rows:
            for values in EVENT.iter_unpack(b64decode(row.get("events", ""))):
                each: dict[str, Any] = {
                    name: None if value == -1 else value for name, value in zip(_EVENT, values, strict=True)
                }
                local, peer = addresses.get(each["connection"], (None, None))
                events.append(
                    each
                    | {
                        "pid": raw.pid,
                        "at_ns": at(each["at_ns"]),
                        "event": EVENTS[each["event"]],
                        "pool": names[each["pool"]],
                        "stack_id": stacks.get(each["stack_id"]),
                        "local": local or None,
                        "peer": peer,
                    }
                )
            for values in row.get("states", ()):
                state = dict(zip(_STATE, values, strict=True))
                states.append(state | {"pid": raw.pid, "at_ns": at(row["at"]), "pool": names[state["pool"]]})
            for values in row.get("holders", ()):
                holder = dict(zip(_HOLDER, values, strict=True))
                for name in ("stack_id", "taken_stack_id"):
                    holder[name] = stacks.get(holder[name])
                holder["holder"] = None if holder["holder"] == -1 else holder["holder"]
                holders.append(holder | {"pid": raw.pid, "at_ns": at(row["at"]), "pool": names[holder["pool"]]})
            settings += [
                {
                    "pid": raw.pid,
                    "at_ns": at(when),
                    "name": f"pool.{names[pool]}.{name}",
                    "value": json.dumps(value, default=str),
                }
                for when, pool, name, value in row.get("settings", ())
            ]
        return {
            "pool_events": POOL_EVENTS.from_rows(events),
            "pool_states": POOL_STATES.from_rows(states),
            "pool_holders": POOL_HOLDERS.from_rows(holders),
            "settings": SETTINGS.from_rows(settings),
            "recording_quality": RECORDING_QUALITY.from_rows([self._quality(stream, len(events), raw)]),
        }

    def _quality(self, stream: Stream, events: int, raw: Raw) -> dict[str, Any]:
        """Return the row of recording_quality."""
        start, end = stream.start, stream.end
        last = stream.rows[-1] if stream.rows else {}
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        until_ns = max([from_ns, *(raw.clock.from_monotonic(row["at"]) for row in stream.rows if "at" in row)])
        if "monotonic_ns" in end:
            until_ns = raw.clock.from_monotonic(end["monotonic_ns"])
        lost = end.get("lost", last.get("lost", 0))
        return {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "expected": events + lost,
            "taken": events,
            "lost": lost + end.get("dropped", 0),
            "stopped_ns": start.get("stopped_ns"),
            "cost_ns": end.get("cost_ns"),
            "note": _note(stream),
        }


def _sources(folder: str) -> dict[str, str]:
    """Return the source of each module of a folder of the probe by its name."""
    files = resources.files("perfkit.probe").joinpath(folder).iterdir()
    return {
        file.name.removesuffix(".py"): file.read_text("utf-8")
        for file in sorted(files, key=lambda file: file.name)
        if file.name.endswith(".py") and file.name != "__init__.py"
    }


def _names(stream: Stream) -> dict[int, str]:
    """Return what each pool is called; a number is added where two have one name."""
    titles = {
        number: f"{library} {title}".strip() for row in stream.rows for number, library, title in row.get("pools", ())
    }
    times = Counter(titles.values())
    seen: Counter[str] = Counter()
    names = {0: "unknown"}
    for number, title in sorted(titles.items()):
        seen[title] += 1
        names[number] = title if times[title] == 1 else f"{title} #{seen[title]}"
    return names


def _stack(flat: list[Any], raw: Raw) -> int:
    """Return the number of a stack of which each frame is three items: function, file, line."""
    items = iter(flat)
    return raw.symbols.stack([raw.symbols.frame(*frame) for frame in zip(items, items, items, strict=True)])


def _note(stream: Stream) -> str | None:
    """Return what a reader of the numbers should know."""
    end, notes = stream.end, []
    if failed := end.get("failed"):
        notes.append(f"It broke off: {failed}.")
    libraries = end.get("libraries", stream.start.get("libraries", []))
    if stream.start:
        notes.append(
            f"Libraries with pools: {', '.join(libraries)}." if libraries else "No library with pools is used."
        )
    for name, why in end.get("broken", {}).items():
        notes.append(f"{name} could not be watched: {why}.")
    if errors := end.get("errors"):
        notes.append(f"{errors} times something could not be read ({end.get('first_error')}).")
    if end.get("too_many_unwinds"):
        notes.append("The target raises so many exceptions that failed acquisitions were not followed to the end.")
    if per_call := end.get("per_call_ns"):
        notes.append(f"Noting an acquisition or a return took {per_call / 1e3:.1f} us.")
    return " ".join(notes) or None


COLLECTOR = PoolEvents()
