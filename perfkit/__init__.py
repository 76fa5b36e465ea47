"""Performance analysis of live Python services: attach by PID, record to Parquet, read a verdict.

>>> import perfkit
>>> profile = perfkit.record(4242, "30s")  # doctest: +SKIP
>>> profile = perfkit.open_profile("profiles/heap_leak_sessions")  # doctest: +SKIP
>>> perfkit.check(profile)  # doctest: +SKIP
>>> profile.sql("select count(*) from cpu_samples")  # doctest: +SKIP

No module here has the name of a public function: importing a module sets its name in this one.
Importing this package costs nothing: its names are loaded when they are first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfkit.checks import check as check
    from perfkit.decode import open_profile as open_profile
    from perfkit.profile import Profile as Profile
    from perfkit.recordings import record as record

__version__ = "0.1.0"

_HOMES = {
    "Profile": "perfkit.profile",
    "check": "perfkit.checks",
    "open_profile": "perfkit.decode",
    "record": "perfkit.recordings",
}
__all__ = ["Profile", "check", "open_profile", "record"]


def __getattr__(name: str) -> object:
    """Load a public name from its home on first use."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'perfkit' has no attribute {name!r}") from None
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """Return the names that completion offers, those not loaded yet included."""
    return sorted({*globals(), *__all__})
