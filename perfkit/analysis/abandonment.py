"""The only place that judges whether a connection that is out will ever come back.

Signs, each read from the live process and not from its age: the task or thread that took it has
ended, or has since taken others at the same line and given them back; the frames that are active whenever
such a connection *is* returned have returned while this one stayed out; nothing has gone over
its socket since. A connection that is used by design for hours (a long poll, a subscription) has a
holder that is there, or traffic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from perfkit.analysis.pools import Checkout

MIN_AGE_S = 3.0
"""Younger uses are requests in flight; holders are looked at every half second."""
_HOLD_FACTOR = 3.0
_SEEN_RETURNS = 3
_LATER_RETURNS = 5
"""So many times the same task or thread has been at the same line since, and has given back what it took."""
_SILENT_RATIO = 0.8


class Sign(IntEnum):
    """How sure it is that nobody is there any more who would return a connection."""

    NONE = 0
    WEAK = 1
    STRONG = 2


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Uses of one place that outlived their code; `gate_s` is the age from which on they were looked at."""

    strong: tuple[Checkout, ...]
    weak: tuple[Checkout, ...]
    gate_s: float


def abandoned(uses: Sequence[Checkout], until_ns: int) -> Abandoned:
    """Return which uses of one place will not end, as far as can be told.

    Args:
        uses: everything that was taken at one line of one pool.
        until_ns: end of the recording.
    """
    returned = [use for use in uses if use.how in ("released", "closed")]
    longest_s = max((use.held_ns(until_ns) / 1e9 for use in returned), default=0.0)
    gate_s = max(MIN_AGE_S, _HOLD_FACTOR * longest_s)
    out = [use for use in uses if use.how is None and use.held_ns(until_ns) / 1e9 > gate_s]
    # Where some have traffic late in their life, the others may only be between two messages.
    pauses_s = [use.silent_ns / 1e9 for use in out if use.silent_ns is not None and not _is_silent(use, until_ns)]
    gate_s = max(gate_s, _HOLD_FACTOR * max(pauses_s, default=0.0))
    old = [use for use in out if use.held_ns(until_ns) / 1e9 > gate_s and _is_silent(use, until_ns)]
    later = _later(old, returned)
    signs = [(_sign(use, returned, later[id(use)]), use) for use in old]
    return Abandoned(
        tuple(use for sign, use in signs if sign is Sign.STRONG),
        tuple(use for sign, use in signs if sign is Sign.WEAK),
        gate_s,
    )


def _is_silent(use: Checkout, until_ns: int) -> bool:
    """Whether nothing went over the socket for most of the use; sockets that could not be asked count as silent.

    Where data lies unread, its sender goes on asking whether there is room: a pause of some seconds is enough.
    """
    if use.silent_ns is None:
        return True
    if use.unread_bytes:
        return use.silent_ns >= MIN_AGE_S * 1e9
    return use.silent_ns >= _SILENT_RATIO * use.held_ns(until_ns)


def _later(old: Sequence[Checkout], returned: Sequence[Checkout]) -> dict[int, int]:
    """Return how many uses the same holder took later with the same stack and gave back, by the identity of a use."""
    ends: dict[tuple[int | None, int | None], list[int]] = {}
    for use in returned:
        ends.setdefault((use.holder, use.stack_id), []).append(use.acquired_ns)
    return {id(use): sum(at > use.acquired_ns for at in ends.get((use.holder, use.stack_id), ())) for use in old}


def _sign(use: Checkout, returned: Sequence[Checkout], later: int) -> Sign:
    """Return what speaks for it that a use does not end."""
    active = [each.active_at_end for each in returned if each.active_at_end is not None]
    others_return_it = bool(active) and min(active) == 0
    if use.finished:
        return Sign.WEAK if others_return_it else Sign.STRONG
    if use.finished is False and later >= _LATER_RETURNS and not others_return_it:
        return Sign.STRONG  # its frames may look active because newer ones have taken their addresses
    if use.active_frames is None or not use.frames:
        return Sign.NONE
    if len(active) >= _SEEN_RETURNS:
        return Sign.STRONG if use.active_frames < min(active) else Sign.NONE
    return Sign.WEAK if use.active_frames == 0 and not others_return_it else Sign.NONE
