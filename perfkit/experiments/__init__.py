"""Kinds of experiments on a live process, one per file: what it tries, and what bounds it.

A file `NAME.py` here adds `perfkit experiment NAME`. It defines `KIND`, see `Kind`; how the windows
are gone through, and how everything comes back, is the business of `perfkit.experiment` and `perfkit.switching`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from perfkit.errors import CannotRecord, UsageError

if TYPE_CHECKING:
    from perfkit.attach.target import Target
    from perfkit.profile import Profile
    from perfkit.recorder import Progress

DESCRIPTORS_SHARE = 0.5
"""Of the descriptors that a process may open, beyond which everything is put back at once."""


class NothingToTry(CannotRecord):
    """There is nothing that a setting could win: the process was looked at and left as it is."""

    hint = "No change needed. To try settings all the same, name them: --thresholds 10000, --sizes 20."


@dataclass(frozen=True)
class Flag:
    """An option of the command line: its value is a tuple of texts, or whether it was given (without `metavar`).

    One with a `default` is given once.
    """

    name: str
    help: str
    metavar: str = ""
    default: str | None = None


@dataclass(frozen=True)
class Followed:
    """What was done after an experiment: what people read, and what programs do under `name`."""

    name: str
    text: str
    form: Any = None


@dataclass(frozen=True)
class Plan:
    """What to try, for how long, under which load.

    `asked` holds the kind's own options by name. `window_s` None: as the kind thinks best.
    """

    asked: Mapping[str, Any] = field(default_factory=dict)
    window_s: float | None = None
    washout_s: float = 1.0
    blocks: int = 6
    seed: int = 1
    load_url: str | None = None
    load_per_s: float = 100.0
    load_options: tuple[str, ...] = ()


@runtime_checkable
class Kind(Protocol):
    """A kind of experiment. The docstring of its class is its help.

    `flags` are its own options; `collector` switches the settings, `collect` are all that run; `rule` judges
    what was measured, `notebook` shows it.
    """

    flags: tuple[Flag, ...]
    collector: str
    collect: tuple[str, ...]
    rule: str
    notebook: str

    def options(self, target: "Target", plan: Plan, progress: "Progress") -> dict[str, Any]:
        """Return the options of the collector: `arms` and the limits; `window_s` where the plan leaves it open.

        Raises:
            NothingToTry, CannotRecord, UsageError: why nothing is tried.
        """
        ...

    def afterwards(self, profile: "Profile", plan: Plan, progress: "Progress") -> Followed | None:
        """Return what is done with what was found, None: nothing."""
        ...

    def other_options(self) -> dict[str, dict[str, Any]]:
        """Return options of the other collectors."""
        ...


def most_descriptors(pid: int) -> int:
    """Return how many descriptors a process may have open before everything is put back."""
    import psutil

    process = psutil.Process(pid)
    soft = process.rlimit(psutil.RLIMIT_NOFILE)[0]
    return max(int(soft * DESCRIPTORS_SHARE), process.num_fds() + 50)


def numbers_of(texts: tuple[str, ...], option: str, *, whole: bool = True) -> tuple[float, ...]:
    """Return the numbers of an option of the command line, which may be given several times.

    >>> numbers_of(("10000,20000", "50000"), "--thresholds")
    (10000, 20000, 50000)

    Raises:
        UsageError: one is not a number above zero.
    """
    try:
        found = tuple((int if whole else float)(part) for text in texts for part in text.split(","))
    except ValueError:
        found = (0,)
    if any(each <= 0 for each in found):
        raise UsageError(f"{' '.join(texts)!r} are not numbers above zero", hint=f"Write them as {option} 10,50.")
    return found
