"""Scenarios, one TOML file each: how to run the reference proxy, load it and record it, and what must be found.

Adding a file to this folder adds a scenario, known by the file's name. Its tables:

```toml
doc = "What it shows, in one sentence."
[proxy]            # as in the proxy's configuration: pool, limits, timeouts, faults, forwarding
[upstream]         # options of `perfkit upstream`: latency_ms = 5 is --latency-ms 5
[load]             # rate_per_s, slo or schedule; arrivals, seed, max_connections, timeout_s, abort_ratio, ...
[[load.routes]]    # the mix: name, method, path, weight, headers, body_bytes
[record]           # duration_s, warmup_s, collect, options
[expect.RULE]      # what the rule must answer: verdict, class
```
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from perfkit.errors import PerfkitError, UnknownName, UsageError
from perfkit.load.options import LoadOptions, Route
from perfkit.load.schedule import Schedule
from perfkit.load.slo import Slo
from perfkit.proxy.config import BadConfig, Config
from perfkit.proxy.upstream import Settings as UpstreamSettings

T = TypeVar("T")

VERDICTS = ("fail", "pass", "undecided")
_HERE = Path(__file__).parent
_LONGEST_LOAD_S = 3600.0


class BadScenario(UsageError):
    """A scenario's file says something that does not exist or does not fit together."""

    def __init__(self, scenario: str, problem: str, hint: str = "") -> None:
        super().__init__(f"scenario {scenario!r}: {problem}", hint=hint)
        self.scenario = scenario


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a scenario; the rate comes from exactly one of `rate_per_s`, `slo` and `schedule`.

    With `rate_per_s` or `slo` it lasts as long as it is asked to. `max_connections` None means
    the in-flight number of the objective, else 64. `late_after_s` is larger than the generator's own
    default: it shares its cores with proxy, upstream and collectors.
    """

    rate_per_s: float | None = None
    slo: str | None = None
    schedule: str | None = None
    arrivals: str = "poisson"
    seed: int = 1
    max_connections: int | None = None
    warm_connections: int = 1
    timeout_s: float = 10.0
    abort_ratio: float = 0.0
    abort_after_s: float = 0.005
    late_after_s: float = 0.02
    routes: tuple[Route, ...] = (Route(),)

    def options(self, host: str, port: int, length_s: float | None = None) -> LoadOptions:
        """Return the options of the load generator for a target.

        Args:
            host: address of the target, on loopback.
            port: its port.
            length_s: how long, in seconds, at most an hour; ignored when there is a `schedule`.
        """
        slo = Slo.parse(self.slo) if self.slo else None
        rate_per_s = slo.requests_per_s if slo else self.rate_per_s
        text = self.schedule or f"{rate_per_s:f}/s for {min(length_s or _LONGEST_LOAD_S, _LONGEST_LOAD_S):f}s"
        return LoadOptions(
            host=host,
            port=port,
            schedule=Schedule.parse(text, self.arrivals, self.seed),
            routes=self.routes,
            max_connections=self.max_connections or (slo.in_flight if slo else 64),
            warm_connections=self.warm_connections,
            timeout_s=self.timeout_s,
            abort_ratio=self.abort_ratio,
            abort_after_s=self.abort_after_s,
            late_after_s=self.late_after_s,
        )


@dataclass(frozen=True, slots=True)
class Record:
    """How a scenario is recorded; `collect` None takes every collector that works."""

    duration_s: float = 45.0
    warmup_s: float = 5.0
    collect: tuple[str, ...] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a rule must answer on a recording of the scenario: ground truth for tests."""

    verdict: str
    class_: str | None = None


@dataclass(frozen=True)
class Scenario:
    """One way to run, load and record the reference proxy."""

    name: str
    doc: str
    proxy: Mapping[str, Any] = field(default_factory=dict)
    upstream: Mapping[str, Any] = field(default_factory=dict)
    load: Load = field(default_factory=lambda: Load(rate_per_s=200.0))
    record: Record = field(default_factory=Record)
    expect: Mapping[str, Expectation] = field(default_factory=dict)

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """Names of the faults that are planted from the start."""
        return tuple(name for name, value in self.proxy.get("faults", {}).items() if value is not False)

    def proxy_config(self, upstream_address: str) -> dict[str, Any]:
        """Return the proxy's configuration as a tree; ports are chosen by the system.

        Args:
            upstream_address: where requests go, as host:port.
        """
        tables = {name: value for name, value in self.proxy.items() if isinstance(value, Mapping)}
        basics = {name: value for name, value in self.proxy.items() if not isinstance(value, Mapping)}
        return {
            "proxy": {"host": "127.0.0.1", "port": 0, "control_port": 0, **basics},
            **tables,
            "upstreams": {"app": {"address": upstream_address}},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the scenario as JSON values, as the manifest stores it."""
        return asdict(self)


def names() -> list[str]:
    """Return the names of the ready-made scenarios, sorted."""
    return sorted(file.stem for file in _HERE.glob("*.toml"))


def load(name: str | Path) -> Scenario:
    """Return a ready-made scenario by name, or one of your own by the path of its .toml file.

    Raises:
        UnknownName: there is no such scenario; or it names a fault, key or method that does not exist.
        BadScenario: the file cannot be read or says something that does not fit together.
    """
    file = Path(name)
    if file.suffix != ".toml":
        if str(name) not in names():
            raise UnknownName("scenario", str(name), names())
        file = _HERE / f"{name}.toml"
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BadScenario(file.stem, f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadScenario(file.stem, f"{file} is not TOML: {error}") from error
    return _from_tree(file.stem, tree)


def _from_tree(name: str, tree: dict[str, Any]) -> Scenario:
    """Return the scenario that a file's content describes, every part of it checked."""
    _known(Scenario, tree, "setting of a scenario", but=("name",))
    if not isinstance(tree.get("doc"), str) or not tree["doc"].strip():
        raise BadScenario(name, "has no doc", "Say in one sentence what it shows: doc = '...'.")
    try:
        scenario = Scenario(
            name=name,
            doc=tree["doc"].strip(),
            proxy=tree.get("proxy", {}),
            upstream=tree.get("upstream", {}),
            load=_load(name, tree.get("load", {})),
            record=_build(Record, tree.get("record", {}), "setting of [record]"),
            expect={rule: _expectation(answer) for rule, answer in tree.get("expect", {}).items()},
        )
        Config.from_mapping(scenario.proxy_config("127.0.0.1:9"))
        UpstreamSettings().changed(dict(scenario.upstream))
        scenario.load.options("127.0.0.1", 9)
    except BadConfig as error:
        raise BadScenario(name, f"[proxy] {error}", error.hint) from error
    except PerfkitError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise BadScenario(name, f"has a value of the wrong type: {error}") from error
    return scenario


def _load(name: str, tree: dict[str, Any]) -> Load:
    """Return the load that the table [load] describes."""
    given = [key for key in ("rate_per_s", "slo", "schedule") if tree.get(key) is not None]
    if len(given) != 1:
        raise BadScenario(
            name, f"[load] gives {' and '.join(given) or 'no rate'}", "Give one of rate_per_s, slo, schedule."
        )
    routes = tuple(_build(Route, route, "setting of a route") for route in tree.get("routes", [{}]))
    return _build(Load, {**tree, "routes": routes}, "setting of [load]")


def _expectation(tree: dict[str, Any]) -> Expectation:
    """Return what a rule must answer."""
    renamed = {("class_" if key == "class" else key): value for key, value in tree.items()}
    expectation = _build(Expectation, renamed, "setting of [expect]")
    if expectation.verdict not in VERDICTS:
        raise UnknownName("verdict", expectation.verdict, list(VERDICTS))
    return expectation


def _build(kind: type[T], tree: Mapping[str, Any], what: str) -> T:
    """Return a dataclass made of a table; lists become tuples."""
    _known(kind, tree, what)
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()})


def _known(kind: type, tree: Mapping[str, Any], what: str, but: tuple[str, ...] = ()) -> None:
    """Refuse keys that mean nothing."""
    known = [f.name for f in fields(kind) if f.name not in but]
    for key in tree:
        if key not in known:
            raise UnknownName(what, key, known)
