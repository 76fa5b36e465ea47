"""The accuracy table, for people."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.leaks.score import Score

WIDTH = 25
BUSY = 1.5
"""Load per core from which on recordings of programs that share the machine say little about the method."""


def _mark(value: bool | None) -> str:
    return "·" if value is None else "yes" if value else "NO"


def header() -> str:
    """Return the head of the rows."""
    return (
        f"{'program':<{WIDTH}}{'shape':<8}{'expected':<18}{'got':<20}{'class':>6}{'holder':>8}{'alloc':>6}{'insert':>7}"
        f"{'slope':>8}{'true':>11}{'memray':>8}{'objgraph':>9}{'tracem.':>8}{'time':>7}"
    )


def row(score: Score) -> str:
    """Return one run as a line."""
    slope = "·" if score.slope_error is None else f"{score.slope_error:+.1%}"
    counted = score.expected in ("thread_leak", "fd_leak")
    truth = "·" if score.true_per_s is None else f"{score.true_per_s:.1f} /s"
    if score.true_per_s is not None and not counted:
        truth = f"{score.true_per_s / 1024:.1f} KiB/s"
    held = "top3" if score.holder_top3 and not score.holder_top1 else _mark(score.holder_top1)
    right = "FALSE!" if score.false_leak else _mark(score.class_right)
    seconds = "·" if score.seconds is None else f"{score.seconds:.0f} s"
    return (
        f"{score.name:<{WIDTH}}{score.shape:<8}{score.expected:<18}{score.got + ' ' + score.verdict[0]:<20}{right:>6}"
        f"{held:>8}{_mark(score.allocation):>6}{_mark(score.insertion):>7}{slope:>8}{truth:>11}"
        f"{_mark(score.memray):>8}{_mark(score.objgraph):>9}{_mark(score.tracemalloc):>8}{seconds:>7}"
    )


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the numbers over all runs."""
    positives = [each for each in scores if each.positive]
    negatives = [each for each in scores if not each.positive]
    errors = [abs(each.slope_error) for each in positives if each.slope_error is not None]
    return {
        "runs": len(scores),
        "positives": len(positives),
        "negatives": len(negatives),
        "class_right_positives": _share(each.class_right for each in positives),
        "class_right_negatives": _share(each.class_right for each in negatives),
        "false_leaks": _share(each.false_leak for each in negatives),
        "holder_top1": _share(each.holder_top1 for each in positives),
        "holder_top3": _share(each.holder_top3 for each in positives),
        "allocation_line": _share(each.allocation for each in positives),
        "insertion_line": _share(each.insertion for each in positives),
        "slope_error_median": statistics.median(errors) if errors else None,
        "slope_within_10_percent": _share(error <= 0.1 for error in errors),
        "slope_in_interval": _share(each.in_interval for each in positives),
        "memray_line": _share(each.memray for each in positives),
        "objgraph_type": _share(each.objgraph for each in positives),
        "tracemalloc_line": _share(each.tracemalloc for each in positives),
        "memray_blames_healthy": _share(each.memray_blames for each in negatives),
        "confusion": [
            [*pair, count] for pair, count in sorted(Counter((each.expected, each.got) for each in scores).items())
        ],
    }


_HELD_TO = {
    "class_right_positives": "≥ 95 %",
    "class_right_negatives": "≥ 85 %",
    "false_leaks": "≤ 1 %",
    "holder_top1": "≥ 90 %",
    "holder_top3": "≥ 97 %",
    "allocation_line": "≥ 90 %",
    "slope_within_10_percent": "all",
    "slope_in_interval": "90 to 98 %",
}


def footer(numbers: dict[str, Any]) -> str:
    """Return the numbers as lines, with what they are held to, and the confusion of classes."""
    lines = [f"{numbers['runs']} runs: {numbers['positives']} positive, {numbers['negatives']} negative"]
    for name, value in numbers.items():
        if isinstance(value, list) and name != "confusion":
            of = f"{value[0]} of {value[1]}" + (f" ({value[0] / value[1]:.0%})" if value[1] else "")
            lines.append(f"  {name.replace('_', ' '):<26}{of:<20}{_HELD_TO.get(name, '')}")
    if numbers["slope_error_median"] is not None:
        lines.append(f"  {'slope error, median':<26}{numbers['slope_error_median']:.1%}")
    if numbers["load_per_core"] > BUSY:
        lines.append(
            f"  The machine was busy ({numbers['load_per_core']:.1f} runnable processes per core): run it again later."
        )
    lines.append("expected -> got:")
    lines += [f"  {expected:<20} {got:<20} {count}" for expected, got, count in numbers["confusion"]]
    return "\n".join(lines)


def _share(answers: Iterable[bool | None]) -> list[int]:
    """Return [right, asked]."""
    asked = [each for each in answers if each is not None]
    return [sum(asked), len(asked)]
