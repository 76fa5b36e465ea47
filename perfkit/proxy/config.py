"""The only place that knows what the proxy can be told: its TOML file, checked before it is used."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args

from perfkit.errors import PerfkitError
from perfkit.proxy.pool import PoolSettings
from perfkit.proxy.request import HeadLimits
from perfkit.proxy.routes import Route

T = TypeVar("T")

FORWARDING = ("stream", "buffered")


class BadConfig(PerfkitError, ValueError):
    """The configuration says something the proxy cannot do; `key` is where."""

    def __init__(self, key: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{key}: {problem}" if key else problem, hint=hint)
        self.key = key


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes beyond which a request, or a connection, is refused."""

    target_bytes: int = 8_192
    head_bytes: int = 16_384
    fields: int = 100
    body_bytes: int = 64 * 1024 * 1024
    connections: int = 10_000

    @property
    def head(self) -> HeadLimits:
        """The limits that concern the head of a request."""
        return HeadLimits(self.target_bytes, self.head_bytes, self.fields)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the proxy waits for others, in seconds.

    `header_s` counts from the first byte of a head to its last; `body_s` from one piece of a
    request body, or one piece taken by a slow reader, to the next; `response_s` from one sign
    of life of the upstream to the next.
    """

    header_s: float = 10.0
    idle_s: float = 75.0
    body_s: float = 30.0
    response_s: float = 60.0
    linger_s: float = 2.0
    drain_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server requests are sent to."""

    host: str
    port: int
    pool: PoolSettings = field(default_factory=PoolSettings)


@dataclass(frozen=True)
class Config:
    """Everything the proxy can be told.

    Args:
        host: address to listen on.
        port: port to listen on; 0 lets the system choose.
        control_port: port of the control endpoint, always on loopback; 0 lets the system choose.
        forwarding: `stream` passes bodies on as they come, `buffered` reads them whole first.
        faults: faults planted from the start, with their options: `{"sessions": {"size_bytes": 4096}}`.
        upstreams: servers by name.
        routes: where requests go; the first that matches wins. Without any, everything goes to the only upstream.
        source: the file it was read from, to read it again.
    """

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int = 0
    forwarding: str = "stream"
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    faults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Path | None = None

    @classmethod
    def from_file(cls, path: str | Path) -> "Config":
        """Return the configuration in a TOML file.

        Raises:
            BadConfig: it cannot be read, is not TOML, or says something the proxy cannot do.
        """
        try:
            tree = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise BadConfig("", f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadConfig("", f"{path} is not TOML: {error}") from error
        return cls.from_mapping(tree, source=Path(path))

    @classmethod
    def from_mapping(cls, tree: Mapping[str, Any], source: Path | None = None) -> "Config":
        """Return the configuration in a mapping shaped like the TOML file.

        Raises:
            BadConfig: it says something the proxy cannot do.
        """
        _known(tree, ("proxy", "limits", "timeouts", "pool", "upstreams", "routes", "faults"), "")
        basics = _table(tree, "proxy")
        _known(basics, ("host", "port", "control_port", "forwarding"), "proxy")
        pool = _table(tree, "pool")
        upstreams = {
            name: _upstream(name, value, pool) for name, value in _table(tree, "upstreams").items()
        }  # fmt: skip
        config = cls(
            **{key: _value(cls, key, basics[key], f"proxy.{key}") for key in basics},
            limits=_build(Limits, _table(tree, "limits"), "limits"),
            timeouts=_build(Timeouts, _table(tree, "timeouts"), "timeouts"),
            upstreams=upstreams,
            routes=_routes(tree.get("routes", []), upstreams),
            faults=_faults(_table(tree, "faults")),
            source=source,
        )
        if config.forwarding not in FORWARDING:
            raise BadConfig("proxy.forwarding", f"{config.forwarding!r} is neither 'stream' nor 'buffered'")
        for key in ("port", "control_port"):
            if not 0 <= getattr(config, key) <= 65_535:
                raise BadConfig(f"proxy.{key}", "is not a port")
        if not upstreams:
            raise BadConfig("upstreams", "none is given", 'Add [upstreams.app] with address = "127.0.0.1:9000".')
        return config


def _upstream(name: str, tree: Any, pool: Mapping[str, Any]) -> Upstream:
    """Return one upstream; its own pool settings go before the common ones."""
    key = f"upstreams.{name}"
    if not isinstance(tree, Mapping):
        raise BadConfig(key, 'is not a table such as { address = "127.0.0.1:9000" }')
    _known(tree, ("address", "pool"), key)
    address = re.fullmatch(r"\[?([^\[\]]+?)\]?:(\d{1,5})", str(tree.get("address", "")))
    if address is None or int(address[2]) > 65_535:
        raise BadConfig(f"{key}.address", 'is not "host:port"')
    own = {**pool, **_table(tree, "pool", f"{key}.")}
    settings = _build(PoolSettings, own, f"{key}.pool")
    if settings.maximum_size < 1:
        raise BadConfig(f"{key}.pool.maximum_size", "must be at least 1")
    if settings.minimum_idle > settings.maximum_size:
        raise BadConfig(f"{key}.pool.minimum_idle", "is more than maximum_size")
    if settings.lifetime_jitter_ratio >= 1:
        raise BadConfig(f"{key}.pool.lifetime_jitter_ratio", "must be less than 1")
    if re.fullmatch(r"/[!-~]*", settings.keepalive_path) is None:
        raise BadConfig(f"{key}.pool.keepalive_path", "is not a path")
    if settings.housekeeping_s <= 0:
        raise BadConfig(f"{key}.pool.housekeeping_s", "must be more than 0")
    return Upstream(address[1], int(address[2]), settings)


def _routes(tree: Any, upstreams: Mapping[str, Upstream]) -> tuple[Route, ...]:
    """Return the routes; without any, everything goes to the only upstream."""
    if not isinstance(tree, list):
        raise BadConfig("routes", "is not a list of tables: write [[routes]]")
    if not tree and len(upstreams) > 1:
        raise BadConfig("routes", "are needed when there is more than one upstream")
    routes = [_build(Route, entry, f"routes[{at}]") for at, entry in enumerate(tree)]
    if not routes:
        routes = [Route(name) for name in upstreams]
    for at, route in enumerate(routes):
        if route.upstream not in upstreams:
            raise BadConfig(f"routes[{at}].upstream", _not_known("upstream", route.upstream, tuple(upstreams)))
        if not route.prefix.startswith("/"):
            raise BadConfig(f"routes[{at}].prefix", "does not begin with '/'")
    return tuple(routes)


def _faults(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the options of each fault that is on."""
    from perfkit.proxy.faults import FAULTS

    _known(tree, tuple(FAULTS), "faults")
    chosen: dict[str, Mapping[str, Any]] = {}
    for name, value in tree.items():
        if not isinstance(value, bool | Mapping):
            raise BadConfig(f"faults.{name}", "is neither true, false nor a table of options")
        if value is not False:
            options = value if isinstance(value, Mapping) else {}
            _known(options, ("size_bytes",), f"faults.{name}")
            for key, number in options.items():
                if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                    raise BadConfig(f"faults.{name}.{key}", "is not a whole number of at least 0")
            chosen[name] = options
    return chosen


def _table(tree: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
    """Return a table of the tree, empty when it is absent."""
    value = tree.get(key, {})
    if not isinstance(value, Mapping):
        raise BadConfig(where + key, "is not a table")
    return value


def _build(kind: type[T], tree: Any, where: str) -> T:
    """Return a dataclass made of a table, every key and type checked."""
    if not isinstance(tree, Mapping):
        raise BadConfig(where, "is not a table")
    names = tuple(f.name for f in fields(kind))  # type: ignore[arg-type]
    _known(tree, names, where)
    try:
        return kind(**{key: _value(kind, key, value, f"{where}.{key}") for key, value in tree.items()})
    except TypeError:
        raise BadConfig(where, f"needs {names[0]!r}") from None


def _value(kind: type, key: str, value: Any, where: str) -> Any:
    """Return one value in the type that its field has."""
    wanted: Any = next(f.type for f in fields(kind) if f.name == key)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted in (int, float, str) and (not isinstance(value, wanted) or isinstance(value, bool)):
        words = {int: "a whole number", float: "a number", str: "a string"}
        raise BadConfig(where, f"is {value!r}, not {words[wanted]}")
    if wanted in (int, float) and not 0 <= value < float("inf"):
        raise BadConfig(where, f"is {value!r}, which is out of range")
    if isinstance(wanted, UnionType) and not isinstance(value, get_args(wanted)):
        raise BadConfig(where, f"is {value!r}, not a {wanted}")
    if key == "headers" and not (isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values())):
        raise BadConfig(where, "is not a table of strings")
    return value


def _known(tree: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Refuse keys that mean nothing."""
    for key in tree:
        if key not in names:
            raise BadConfig(f"{where}.{key}" if where else key, _not_known("setting", key, names))


def _not_known(kind: str, name: str, names: tuple[str, ...]) -> str:
    """Return the complaint about a name, with the closest known one."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=1)
    return f"there is no such {kind}" + (
        f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
    )
