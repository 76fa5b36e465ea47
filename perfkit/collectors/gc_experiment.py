"""Tries settings of the collector on the live process, in windows of random order, and puts everything back.

It belongs to `perfkit experiment gc`, which records the collections and the requests meanwhile. The
settings come back whatever happens: the probe in the target sees to that, see `perfkit.probe.gc_settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perfkit.switching import WINDOWING, Switching


@dataclass(frozen=True)
class GcExperiment(Switching):
    """Switches between settings of the collector; runs only when `--collect` names it.

    Options: those of every experiment (`perfkit.switching.WINDOWING`), with `arms` that are
    `{"thresholds": [t0]}` and/or `{"freeze": true}`; `max_rss_bytes` and `max_descriptors`, beyond which
    all is put back at once.
    """

    name: str = "gc_experiment"
    group: str = "gc"
    options: Mapping[str, Any] = field(
        default_factory=lambda: {**WINDOWING, "max_rss_bytes": None, "max_descriptors": None}
    )

    probe: ClassVar[str] = "gc_settings"
    starts_with: ClassVar[tuple[str, ...]] = ("max_rss_bytes", "max_descriptors")
    reads: ClassVar[tuple[str, ...]] = ("thresholds", "frozen", "frozen_objects")
    compared: ClassVar[tuple[str, ...]] = ("thresholds", "enabled", "frozen_objects")

    def refused(self, told: Mapping[str, Any], arms: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings that freeze, for a process with frozen objects.

        `gc.unfreeze()` would let those loose, too, and nothing could bring them back.
        """
        if not told["frozen_objects"]:
            return {}
        why = "Freezing was not tried: the process has frozen objects of its own."
        return {name: why for name, arm in arms.items() if arm.get("freeze")}


COLLECTOR = GcExperiment()
