"""Tries settings of a connection pool on the live process, in windows of random order, and puts everything back.

It belongs to `perfkit experiment pool`, which records the pool's events and the requests meanwhile. The
settings come back whatever happens: the probe in the target sees to that, see `perfkit.probe.pool_settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perfkit.switching import WINDOWING, Switching


@dataclass(frozen=True)
class PoolExperiment(Switching):
    """Switches between settings of one connection pool; runs only when `--collect` names it, beside `pool_events`.

    Options: those of every experiment (`perfkit.switching.WINDOWING`), with `arms` that are
    `{"values": {"size": 10}}`; `pool`, its name; `max_open` and `max_descriptors`, beyond which all is put
    back at once.
    """

    name: str = "pool_experiment"
    group: str = "pools"
    options: Mapping[str, Any] = field(
        default_factory=lambda: {**WINDOWING, "pool": "", "max_open": None, "max_descriptors": None}
    )

    probe: ClassVar[str] = "pool_settings"
    starts_with: ClassVar[tuple[str, ...]] = ("pool", "max_open", "max_descriptors")
    reads: ClassVar[tuple[str, ...]] = ("settings", "open", "limit")
    compared: ClassVar[tuple[str, ...]] = ("number", "settings")

    def is_ready(self, told: Mapping[str, Any]) -> bool:
        """Whether the pool was found."""
        return told["number"] is not None

    def counts(self, told: Mapping[str, Any]) -> bool:
        """Whether no more connections are open than the setting allows."""
        return told["limit"] is None or told["open"] is None or bool(told["open"] <= told["limit"])


COLLECTOR = PoolExperiment()
