"""What a finding got right about a program, and what the other tools did."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import perfkit
from benchmarks.leaks.corpus import LEAK_CLASSES, Line, Program
from benchmarks.leaks.running import PEERS, Run

GROWTH_CLASSES = LEAK_CLASSES | {"gc_debt", "backlog"}
"""Classes whose finding says how fast it grows."""


@dataclass(frozen=True)
class Score:
    """One run judged; None where the question does not arise."""

    name: str
    shape: str
    seed: int
    positive: bool
    expected: str
    got: str
    verdict: str
    title: str
    class_right: bool
    false_leak: bool | None
    holder: str
    holder_top1: bool | None
    holder_top3: bool | None
    allocation: bool | None
    insertion: bool | None
    true_per_s: float | None
    found_per_s: float | None
    slope_error: float | None
    in_interval: bool | None
    memray: bool | None
    objgraph: bool | None
    tracemalloc: bool | None
    memray_blames: bool | None
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def score(run: Run, findings: Mapping[str, Any], seconds: float | None = None) -> Score:
    """Return how right the finding about a program is."""
    program = run.program
    [finding] = findings["findings"]
    class_ = finding["class"]
    leak = finding["verdict"] == "fail" and class_ in LEAK_CLASSES
    truth = true_slope(run, finding) if program.positive else None
    rate = None if program.counted else finding["rate_bytes_per_s"]
    retainers = [finding["retainer"], *candidates(finding)]
    held = [_holds(program, each) for each in retainers]
    says_where = program.positive and program.holder is not None
    found = None
    if class_ in GROWTH_CLASSES and class_ in program.classes:
        found = finding["measured"] if program.counted else rate[1] if rate else None
    return Score(
        name=program.name,
        shape=run.shape,
        seed=run.seed,
        positive=program.positive,
        expected=program.classes[0],
        got=class_,
        verdict=finding["verdict"],
        title=finding["title"],
        class_right=class_ in program.classes,
        false_leak=None if program.positive else leak,
        holder=" > ".join(finding["retainer"] or ()),
        holder_top1=held[0] if says_where else None,
        holder_top3=any(held[:4]) if says_where else None,
        allocation=_is_at(finding["site"], program.allocates) if program.positive and program.allocates else None,
        insertion=_is_at(finding["insertion"], program.inserts) if program.positive and program.inserts else None,
        true_per_s=truth,
        found_per_s=found,
        slope_error=found / truth - 1 if truth and found is not None else None,
        in_interval=rate[0] <= truth <= rate[2] if truth and rate and found is not None else None,
        **{peer: _peer(run, peer) for peer in ("memray", *PEERS)},
        memray_blames=None if program.positive else _memray_blames(run),
        seconds=seconds,
    )


def candidates(finding: Mapping[str, Any]) -> list[list[str]]:
    """Return the retaining paths of the candidates that a finding lists as evidence, best first."""
    listed = finding["evidence"].get("holders") or finding["evidence"].get("containers") or []
    return [path for each in listed if (path := each.get("owner") or each.get("path") or each.get("retainer"))]


def true_slope(run: Run, finding: Mapping[str, Any]) -> float | None:
    """Return how fast it leaked in the window that the finding's rate is of; None when nobody counted.

    In bytes (or units) per second, between the readings around its ends: all of the recording where the
    finding names no window.
    """
    manifest = json.loads((run.profile / "manifest.json").read_text("utf-8"))
    evidence, began_ns = finding["evidence"], manifest["started_monotonic_ns"]
    since_s = evidence.get("since_s", 0.0)
    window_s = evidence.get("rate_window_s") or [since_s, since_s + evidence.get("window_s", 0.0)]
    if window_s[1] <= window_s[0]:
        window_s = [0.0, manifest["duration_ns"] / 1e9]
    rows = [json.loads(line) for line in run.truth.read_text("utf-8").splitlines() if line.endswith("}")]
    if len(rows) < 2:
        return None
    at_ns = np.array([row["monotonic_ns"] for row in rows], np.float64)
    leaked = np.array([row["units" if run.program.counted else "size_bytes"] for row in rows], np.float64)
    ends_ns = np.clip(began_ns + np.array(window_s) * 1e9, at_ns[0], at_ns[-1])
    grown, length_ns = np.diff(np.interp(ends_ns, at_ns, leaked)), np.diff(ends_ns)
    return float(grown[0] / length_ns[0] * 1e9) if length_ns[0] > 0 else None


def _holds(program: Program, path: Iterable[str] | None) -> bool:
    """Whether a retaining path is that of the leak."""
    return bool(path and program.holder and re.search(program.holder, " > ".join(path)))


def _is_at(site: Mapping[str, Any] | None, lines: Iterable[Line]) -> bool:
    """Whether a place is one of these lines."""
    return bool(site and site["file"] and (Path(site["file"]).name, site["line"]) in lines)


def _peer(run: Run, peer: str) -> bool | None:
    """Whether the first thing that another tool names is right: a line, for objgraph a type; None when not asked."""
    program, file = run.program, run.folder / f"{peer}.json"
    asked = program.type is not None if peer == "objgraph" else bool(program.allocates)
    if not program.positive or not asked or not file.exists():
        return None
    answer = json.loads(file.read_text("utf-8"))
    if peer == "objgraph":
        return bool(answer and re.search(program.type or "", answer[0][0]))
    return bool(answer and (Path(answer[0][0]).name, answer[0][1]) in program.allocates)


def _memray_blames(run: Run) -> bool | None:
    """Whether `memray table --leaks` lists a line that left more than 64 KiB per minute behind."""
    file = run.folder / "memray.json"
    if not file.exists():
        return None
    answer = json.loads(file.read_text("utf-8"))
    manifest = json.loads((run.profile / "manifest.json").read_text("utf-8"))
    return bool(answer and answer[0][2] / (manifest["duration_ns"] / 1e9) > 65_536 / 60)


def memray_leaks(run: Run) -> None:
    """Keep what `memray table --leaks` says of the same capture: lines by the bytes they left behind."""
    profile = perfkit.open_profile(run.profile)
    if "heap_survival" not in profile.manifest.rows:
        return
    rows = profile.sql(
        "select coalesce(file, function) as file, line, sum(size_bytes) as size_bytes from heap_survival "
        "join stacks using (stack_id) join frames on leaf_frame_id = frame_id "
        "where freed_ns is null group by all order by size_bytes desc limit 10"
    )
    (run.folder / "memray.json").write_text(rows.to_json(orient="values"), "utf-8")
