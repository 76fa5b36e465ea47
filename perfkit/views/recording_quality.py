"""How complete is what was recorded, and what did recording it cost?"""

from typing import TYPE_CHECKING, Any

from perfkit.profile import Profile
from perfkit.units import UNKNOWN, count_text, percent_text, seconds_text
from perfkit.views.display import Cell, Note, PlainTable

if TYPE_CHECKING:
    import pandas as pd


def recording_quality(profile: Profile) -> PlainTable | Note:
    """Return one row per collector: what it covered, took and lost, and what it cost the target.

    What is missing from the whole recording is said below the table.
    """
    quality = profile.frame("recording_quality")
    missing = tuple(f"Missing: {sentence}" for sentence in profile.manifest.missing)
    if quality.empty:
        return Note(" ".join(["Nothing was recorded: no collector reported.", *missing]))
    rows = [_row(row, profile.manifest.duration_ns) for _, row in quality.iterrows()]
    headers = ("collector", "process", "covered", "taken", "lost", "target stopped", "CPU in target", "note")
    numbers = frozenset({"covered", "taken", "lost", "target stopped", "CPU in target"})
    return PlainTable(headers, rows, numbers=numbers, notes=missing)


def _row(row: "pd.Series[Any]", duration_ns: int) -> list[Cell]:
    """Return the cells of one collector."""
    covered = (row["until_ns"] - row["from_ns"]) / duration_ns if duration_ns else None
    expected = _known(row["expected"]) or row["taken"] + row["lost"]
    lost = percent_text(min(row["lost"] / expected, 1.0)) if expected else UNKNOWN
    return [
        str(row["collector"]).replace("_", " "),
        str(pid) if (pid := _known(row["pid"])) else UNKNOWN,
        percent_text(None if covered is None else min(covered, 1.0)),
        count_text(row["taken"]),
        lost,
        _time(row["stopped_ns"]),
        _time(row["cost_ns"]),
        str(note) if isinstance(note := row["note"], str) else "",
    ]


def _known(value: object) -> int | None:
    """Return a cell that may be NULL as a number."""
    import pandas as pd

    return None if pd.isna(value) else int(value)  # type: ignore[call-overload]


def _time(value: object) -> str:
    """Return nanoseconds that may be NULL as text."""
    known = _known(value)
    return UNKNOWN if known is None else seconds_text(known / 1e9)
