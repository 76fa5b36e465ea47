"""The rule `lossy_recording`: is what was recorded complete enough to be believed."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile


@dataclass(frozen=True)
class LossyRecording:
    """A collector lost readings, stopped early, or the load was not the one that was asked for.

    Why it matters: what is missing is rarely missing at random. Samplers lose readings when the
    machine is busiest, and a load that falls behind hides the very latency it was to show.
    Evidence: `recording_quality` (expected, taken, lost, covered time, notes of the load) and the
    manifest's list of what is missing.
    Limits: knows only losses that a collector noticed itself.
    Source: losses that depend on the load: G. Tene, "How NOT to Measure Latency"
    (coordinated omission), https://www.infoq.com/presentations/latency-response-time/
    """

    doubtful_ratio: float = 0.05
    """If all that was lost was of one kind, a share is wrong by as much as was lost: beyond 5 %
    that is more than the 95 % intervals that findings carry."""
    useless_ratio: float = 0.5
    """With more lost than taken, the unseen majority decides every question."""
    covered_ratio: float = 0.8
    """Share of the recording a collector must cover; attaching takes its part of short ones."""
    attach_s: float = 5.0
    """Time that a collector may need to start, whatever the length of the recording."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per collector with trouble and one for what is missing, or one pass."""
        quality = profile.frame("recording_quality")
        troubles = [*self._missing(profile, quality)]
        for row in quality.to_dict("records"):
            troubles += self._losses({name: None if pd.isna(cell) else cell for name, cell in row.items()}, profile)
        if troubles:
            return troubles
        title = f"Nothing of note was lost by {_count(len(quality), 'collector')}"
        return [
            Finding("lossy_recording", Verdict.PASS, "none", title, "Nothing to do.", 0.0, self.doubtful_ratio, "ratio")
        ]

    def _missing(self, profile: Profile, quality: pd.DataFrame) -> Iterator[Finding]:
        """Yield the finding for a recording that is not whole."""
        silent = sorted(profile.manifest.collectors.keys() - set(quality["collector"]))
        missing = list(profile.manifest.missing)
        missing += [f"{name} recorded nothing" for name in silent if not any(name in each for each in missing)]
        if not missing and not len(quality):
            missing = ["no collector recorded anything"]
        if missing or not profile.manifest.complete:
            yield Finding(
                "lossy_recording",
                Verdict.UNDECIDED,
                "incomplete",
                "The recording is not whole: " + ("; ".join(missing) or "it was interrupted"),
                "Conclusions hold for what was recorded. Record again if the missing part matters.",
                evidence={"missing": missing},
                needs=("a recording that runs to its end",),
            )

    def _losses(self, row: dict[Hashable, Any], profile: Profile) -> Iterator[Finding]:
        """Yield what is wrong with the data of one collector."""
        name, taken, note = row["collector"], row["taken"], row["note"]
        expected = max(taken + row["lost"], row["expected"] or 0)
        lost_ratio = (expected - taken) / expected if expected else 0.0
        covered_s, duration_s = (row["until_ns"] - row["from_ns"]) / 1e9, profile.duration_s
        because = f" ({note})" if note else ""
        if name == "load" and note:
            class_, title = "load_late", f"The load did not keep its schedule: {note}"
            hint = "Lower the rate, allow more connections, or give the load generator a core of its own."
            measured, limit = lost_ratio, self.doubtful_ratio
        elif lost_ratio > self.doubtful_ratio and expected - taken > 1:  # one of nine is a rounding of the plan
            class_, title = "lost_readings", f"{name} lost {lost_ratio:.0%} of its readings{because}"
            hint = "Record again on a machine with a free core, or at a lower rate."
            measured, limit = lost_ratio, self.doubtful_ratio
        elif duration_s - covered_s > max((1 - self.covered_ratio) * duration_s, self.attach_s):
            title = f"{name} covers {covered_s:.0f} s of a recording of {duration_s:.0f} s{because}"
            class_, hint = "partly_covered", "Conclusions from it hold for that time only."
            measured, limit = covered_s / duration_s, self.covered_ratio
        else:
            return
        yield Finding(
            "lossy_recording",
            Verdict.FAIL if lost_ratio > self.useless_ratio else Verdict.UNDECIDED,
            class_,
            title,
            hint,
            measured=measured,
            limit=limit,
            unit="ratio",
            pid=row["pid"],
            evidence={"collector": name, "expected": expected, "taken": taken, "covered_s": covered_s, "note": note},
            needs=("a recording without these losses",),
        )


RULE = LossyRecording()


def _count(number: int, what: str) -> str:
    """Return a number with its noun.

    >>> _count(1, "collector"), _count(2, "collector")
    ('1 collector', '2 collectors')
    """
    return f"{number} {what}" + ("" if number == 1 else "s")
