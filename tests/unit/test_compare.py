"""`perfkit compare`: what is told of two recordings whose difference is known."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from perfkit.analysis.changes import Outcome
from perfkit.analysis.comparison import METRICS, Row
from perfkit.analysis.comparison_memory import HeapChange
from perfkit.cli import main
from perfkit.compare import Comparison, NotComparable, compare, to_json_form
from perfkit.profile import Profile
from tests import builders
from tests.builders import ENCODE, SECOND_NS, cpu_rows, healthy, leaking, make_profile, process_rows, request_rows

pytestmark = pytest.mark.timeout(240)
SECONDS = 60
TURNED = {Outcome.WORSE: Outcome.BETTER, Outcome.BETTER: Outcome.WORSE, Outcome.FIXED: Outcome.WORSE}


def rows_of(comparison: Comparison, metric: str) -> list[Row]:
    """Return the rows of one number."""
    return [each for each in comparison.rows if each.metric == metric]


def slower(factor: float) -> list[builders.Row]:
    """Return requests that take longer."""
    rows = [dict(row) for row in request_rows(SECONDS)]
    return [row | {"latency_ns": int(row["latency_ns"] * factor)} for row in rows]


def busier(extra: float) -> dict[str, Iterable[builders.Row]]:
    """Return a service that spends `extra` of a core more in `dumps`, seen by samples and by /proc."""
    tick = SECOND_NS // 50
    more = [
        {"tick_ns": tick * number, "weight_ns": tick, "thread": "worker-1", "stack": ENCODE, "active": True}
        for number in range(SECONDS * 50)
        if number % 50 < extra * 50
    ]
    stats = [
        dict(row) | {"cpu_user_ns": row["cpu_user_ns"] + int(row["at_ns"] * extra)} for row in process_rows(SECONDS)
    ]
    return {"cpu": [*cpu_rows(SECONDS), *more], "process": stats}


def pauses(every_s: float, pause_ms: float, *, manual: bool = False) -> list[builders.Row]:
    """Return collections at regular times, each a little longer or shorter than `pause_ms`."""
    return [
        {
            "start_ns": int(number * every_s * SECOND_NS),
            "pause_ns": int((pause_ms + number % 5 / 10) * 1e6),
            "generation": 2,
            "collected": 10,
            "uncollectable": 0,
            "manual": manual,
            **({"stack": (("[perfkit probe]", None, None),)} if manual else {}),
        }
        for number in range(int(SECONDS / every_s))
    ]


def plain(path: Path, **more: Any) -> Profile:
    """Return a healthy service of which the heap was not recorded, so that judging it costs little."""
    rows: dict[str, Any] = {
        "cpu": cpu_rows(SECONDS),
        "process": process_rows(SECONDS),
        "requests": request_rows(SECONDS),
        "ledger": builders.ledger_rows(SECONDS, 6),
    }
    return make_profile(path, duration_s=SECONDS, **(rows | more))


def collecting(path: Path, rows: list[builders.Row]) -> Profile:
    """Return a healthy service with these collections."""
    return plain(path, others={"gc_pauses": rows}, manifest={"collectors": {"gc_pauses": {}}})


@pytest.mark.parametrize("service", [healthy, leaking])
def test_a_recording_is_the_same_as_itself(tmp_path: Path, service: Any) -> None:
    profile = service(tmp_path / "one")
    comparison = compare(profile, profile)
    assert {each.outcome for each in comparison.rows} <= {Outcome.SAME, Outcome.CANNOT_TELL}
    assert [each.outcome for each in comparison.growth] == [Outcome.SAME]
    assert comparison.verdict == "same"
    assert all(each.change.estimate in (0, 1) for each in comparison.rows if each.change), "no difference, no factor"
    assert comparison.heap == HeapChange((), (), (), (), ())


def test_all_numbers_of_a_quiet_service_are_the_same_as_themselves(tmp_path: Path) -> None:
    profile = plain(tmp_path / "one", requests=request_rows(SECONDS, error_every=10**9))
    comparison = compare(profile, profile)
    unclear = [each.metric for each in comparison.rows if each.outcome is not Outcome.SAME]
    assert unclear == []
    assert len(comparison.rows) >= 6


@pytest.mark.parametrize(
    "head",
    [
        pytest.param({"requests": slower(3)}, id="slower"),
        pytest.param(busier(0.4), id="busier"),
        pytest.param({"heap": builders.heap_rows(SECONDS, None)}, id="keeps-more"),
    ],
)
def test_swapping_the_sides_turns_every_verdict_round(tmp_path: Path, head: dict[str, Any]) -> None:
    one, other = plain(tmp_path / "one"), plain(tmp_path / "other", **head)
    forth, back = compare(one, other), compare(other, one)
    there = {(each.metric, str(each.subject)): each.outcome for each in forth.rows}
    again = {(each.metric, str(each.subject)): each.outcome for each in back.rows}
    assert again == {key: TURNED.get(outcome, outcome) for key, outcome in there.items()}


def test_a_leak_that_is_gone_is_fixed_and_the_proof_is_told(tmp_path: Path) -> None:
    comparison = compare(leaking(tmp_path / "base"), healthy(tmp_path / "head"))
    [growth] = comparison.growth
    assert growth.outcome is Outcome.FIXED
    assert growth.watched_s > 50
    assert growth.smallest_seen is not None
    assert growth.rate is not None
    assert growth.rate.base.estimate == pytest.approx(160 * 1024, rel=0.1), "20 sessions of 8 KiB per second"
    assert growth.smallest_seen < 0.2 * growth.rate.base.estimate
    assert not comparison.is_regression
    assert "the growth is gone, 160 KiB/s before" in comparison.title


def test_a_new_leak_is_a_regression_and_its_line_is_told(tmp_path: Path) -> None:
    comparison = compare(healthy(tmp_path / "base"), leaking(tmp_path / "head"))
    assert comparison.verdict == "regression"
    assert [each.outcome for each in comparison.growth] == [Outcome.WORSE]
    assert "open_session" in comparison.title
    assert comparison.heap.line_paces[0].name == "open_session"
    assert comparison.heap.type_paces[0].name in ("app.sessions.Session", "builtins.dict")
    [resident] = rows_of(comparison, "resident_bytes")
    assert "grows" in resident.because, "not a level of its own"


def test_a_leak_twice_as_fast_is_worse_and_half_as_fast_is_better(tmp_path: Path) -> None:
    def double(rows: Iterable[builders.Row]) -> list[builders.Row]:
        return [dict(row) | {"size_bytes": 2 * row["size_bytes"]} for row in rows]

    base = leaking(tmp_path / "base")
    head = leaking(tmp_path / "head", heap=double(builders.heap_rows(SECONDS, None)))
    assert [each.outcome for each in compare(base, head).growth] == [Outcome.WORSE]
    assert [each.outcome for each in compare(head, base).growth] == [Outcome.BETTER]


def test_a_fix_is_not_proven_by_a_service_without_load(tmp_path: Path) -> None:
    base = leaking(tmp_path / "base")
    head = healthy(tmp_path / "head", requests=request_rows(SECONDS, per_s=1))
    [growth] = compare(base, head).growth
    assert growth.outcome is Outcome.CANNOT_TELL
    assert "load" in growth.because


def test_slower_requests_are_a_regression(tmp_path: Path) -> None:
    comparison = compare(plain(tmp_path / "base"), plain(tmp_path / "head", requests=slower(2)))
    [median] = rows_of(comparison, "latency_p50")
    assert median.outcome is Outcome.WORSE
    assert median.change is not None
    assert median.change.low <= 2 <= median.change.high
    assert comparison.is_regression


@pytest.mark.parametrize(
    ("share", "factor", "outcome"),
    [
        pytest.param("none", 1.6, Outcome.WORSE, id="quiet-machine"),
        pytest.param("tenth", 1.6, Outcome.CANNOT_TELL, id="busy-machine"),
        pytest.param("tenth", 4, Outcome.WORSE, id="busy-machine-but-more-than-it-can-do"),
    ],
)
def test_what_a_busy_machine_can_do_is_not_blamed_on_the_program(
    tmp_path: Path, share: str, factor: float, outcome: Outcome
) -> None:
    late_ns = {"tenth": lambda n: 30_000_000 * (n % 8 == 0), "none": lambda _: 0}[share]
    head = [row | {"dispatched_ns": row["intended_ns"] + late_ns(n)} for n, row in enumerate(map(dict, slower(factor)))]
    comparison = compare(plain(tmp_path / "base"), plain(tmp_path / "head", requests=head))
    [median] = rows_of(comparison, "latency_p50")
    assert median.outcome is outcome
    assert ("sent late" in median.because) == (outcome is Outcome.CANNOT_TELL)


def test_a_function_that_takes_more_cpu_is_named(tmp_path: Path) -> None:
    comparison = compare(plain(tmp_path / "base"), plain(tmp_path / "head", **busier(0.4)))
    [whole] = rows_of(comparison, "cpu_ms_per_request")
    assert whole.outcome is Outcome.WORSE
    assert [each.subject and each.subject.name for each in rows_of(comparison, "function_self_cores")] == ["dumps"]
    named = {each.subject.name for each in rows_of(comparison, "function_total_cores") if each.subject}
    assert {"dumps", "render"} <= named, "its callers took it too"
    assert not {"login", "read_body"} & named, "others did not change"


def test_time_waiting_for_a_busy_machine_is_no_work(tmp_path: Path) -> None:
    """Samples say twice as much running; the process's own CPU time says that it was not."""
    more = [dict(row) | {"active": True} for row in cpu_rows(SECONDS)]
    comparison = compare(plain(tmp_path / "base"), plain(tmp_path / "head", cpu=more))
    assert [each.outcome for each in rows_of(comparison, "cpu_ms_per_request")] == [Outcome.SAME]


def test_longer_pauses_are_a_regression_and_perfkits_own_are_not(tmp_path: Path) -> None:
    base = collecting(tmp_path / "base", pauses(0.5, 4.0))
    head = collecting(tmp_path / "head", pauses(0.5, 40.0))
    assert [each.outcome for each in rows_of(compare(base, head), "gc_pause_p99")] == [Outcome.WORSE]
    assert [each.outcome for each in rows_of(compare(base, head), "gc_share")] == [Outcome.WORSE]
    own = collecting(tmp_path / "own", [*pauses(0.5, 4.0), *pauses(2.0, 400.0, manual=True)])
    assert {each.outcome for each in compare(base, own).rows if each.family == "gc"} == {Outcome.SAME}


def test_more_resident_memory_is_a_regression(tmp_path: Path) -> None:
    more = [dict(row) | {"rss_bytes": row["rss_bytes"] + 40 * builders.MIB} for row in builders.ledger_rows(SECONDS, 6)]
    comparison = compare(plain(tmp_path / "base"), plain(tmp_path / "head", ledger=more))
    assert [each.outcome for each in rows_of(comparison, "resident_bytes")] == [Outcome.WORSE]


def graph(sessions: int) -> dict[str, list[builders.Row]]:
    """Return one snapshot: a module, its dictionary, and sessions of 8 KiB in it."""
    shared: builders.Row = {"rung": 0, "refcount": 1}
    objects = [
        shared | {"object_id": 1, "type": "builtins.module", "size_bytes": 72, "root": "module", "name": "app"},
        shared | {"object_id": 2, "type": "builtins.dict", "size_bytes": 500},
        *(shared | {"object_id": 10 + n, "type": "app.Session", "size_bytes": 8192} for n in range(sessions)),
    ]
    references = [
        {"rung": 0, "from_id": 1, "to_id": 2, "label": ".SESSIONS"},
        *({"rung": 0, "from_id": 2, "to_id": 10 + n} for n in range(sessions)),
    ]
    return {"heap_objects": objects, "heap_references": references}


def test_heaps_differ_by_path_and_by_holder(tmp_path: Path) -> None:
    base, head = (
        make_profile(tmp_path / name, others=graph(sessions), requests=request_rows(SECONDS))
        for name, sessions in (("base", 10), ("head", 300))
    )
    heap = compare(base, head).heap
    [path] = heap.paths
    assert path.name == "module app > SESSIONS > dict value > Session"
    assert path.objects == (10, 300)
    assert path.size_bytes == (10 * 8192, 300 * 8192)
    assert [each.name for each in heap.holders] == ["builtins.dict"]


def test_the_same_things_reached_another_way_are_no_difference(tmp_path: Path) -> None:
    """A frame refers to the map as well in HEAD, and is closer to it than the module."""
    base, head = graph(200), graph(300)
    head["heap_objects"][0] = head["heap_objects"][0] | {"root": "frame", "name": "app.serve"}  # type: ignore[operator]
    profiles = [
        make_profile(tmp_path / name, others=others, requests=request_rows(SECONDS))
        for name, others in (("base", base), ("head", head))
    ]
    [path] = compare(*profiles).heap.paths
    assert path.name == "frame app.serve > SESSIONS > dict value > Session"
    assert path.objects == (200, 300)


def test_what_is_not_comparable_is_refused_unless_forced(tmp_path: Path) -> None:
    base, head = healthy(tmp_path / "base"), healthy(tmp_path / "head", seconds=3)
    with pytest.raises(NotComparable) as refusal:
        compare(base, head)
    assert [each.what for each in refusal.value.differences] == ["length"]
    assert compare(base, head, force=True).forced


KEYS = {
    "": "schema verdict title forced base head differences growth rows heap",
    "base": "profile duration_s python program requests_per_s",
    "differences": "what base head bearing because families",
    "growth": "outcome title of because watched_s smallest_seen measure unit base head base_rate head_rate",
    "rows": "metric family unit subject base head scale change p smallest_seen outcome because",
    "heap": "paths holders types type_paces line_paces",
}


def test_the_json_form_has_the_keys_that_programs_rely_on(tmp_path: Path) -> None:
    head = leaking(tmp_path / "head", manifest={"missing": ("something",)}, **busier(0.4))
    form = json.loads(json.dumps(to_json_form(compare(healthy(tmp_path / "base"), head)), allow_nan=False))
    assert form["schema"] == 1
    for name, keys in KEYS.items():
        part = form[name] if name else form
        part = part[0] if isinstance(part, list) else part
        assert set(part) == set(keys.split()), name
    assert {each["metric"] for each in form["rows"]} <= METRICS.keys()
    assert {each["outcome"] for each in form["rows"]} <= {"worse", "better", "same", "cannot_tell"}
    for each in form["rows"]:
        assert each["change"] is None or each["change"] == sorted(each["change"])
    assert set(form["heap"]["types"][0]) == {"name", "objects", "size_bytes"}
    assert set(form["heap"]["line_paces"][0]) == {"name", "file", "line", "unit", "base", "head"}


def run(*arguments: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of the command line."""
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_exit_codes_say_regression_none_and_not_comparable(tmp_path: Path) -> None:
    good, bad, short = tmp_path / "good", tmp_path / "bad", tmp_path / "short"
    healthy(good)
    leaking(bad)
    healthy(short, seconds=3)
    code, out, _ = run(good, bad)
    assert code == 1
    assert out.startswith("Regression: memory grows now")
    assert run(bad, good)[0] == 0
    assert run(good, good)[0] == 0
    code, out, err = run(good, short)
    assert (code, out) == (2, "")
    assert "--force" in err
    code, out, _ = run(good, short, "--force")
    assert code in (0, 1)
    assert "NOT COMPARABLE" in out
    assert json.loads(run(good, bad, "--json")[1])["verdict"] == "regression"
