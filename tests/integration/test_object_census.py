"""A census of a living process: what it counts, which containers it names, and what it leaves alone."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from perfkit.attach.session import Session
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording
from perfkit.collectors.object_census import COLLECTOR
from perfkit.symbols import Symbols
from tests.attach_targets import Running, eventually, every_version, interpreter, running, same_version

pytestmark = pytest.mark.attach

_LENGTH_S = 3.0


def census(target: Running, raw: Path, length_s: float = _LENGTH_S, **options: Any) -> dict[str, pd.DataFrame]:
    """Return the tables of a census, as frames."""
    clock = Clock.start()
    with Session.open(target.target) as session:
        recording = Recording(target.target, raw, clock, lambda: session, print, duration_s=length_s, options=options)
        with COLLECTOR.record(recording):
            time.sleep(length_s)
        assert session.failures == {}
    tables = COLLECTOR.decode(Raw(raw, target.target.pid, clock, Symbols(), clock.now_ns()))
    return {name: table.to_pandas() for name, table in tables.items()}


@pytest.fixture(scope="module", params=["3.10", "3.11", "3.12", "3.13"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """A census of the leaking shop, in each version."""
    with running("shop.py", python=interpreter(request.param)) as target:
        return census(target, tmp_path_factory.mktemp("raw"), owners=20, max_share=0.5)


def test_the_type_that_leaks_grows_at_every_rung(shop: dict[str, pd.DataFrame]) -> None:
    sessions = shop["object_census"].query("type == '__main__.Session'").sort_values("rung")
    assert len(sessions) >= 6
    assert (sessions["objects"].diff().dropna() > 0).all()
    assert (sessions["size_bytes"] / sessions["objects"]).between(30, 200).all()


@pytest.mark.parametrize(
    ("owner", "item_type"),
    [
        pytest.param("module __main__ > SESSIONS", "__main__.Session", id="a-global-dict"),
        pytest.param("module __main__ > BODIES", "builtins.bytes", id="a-dict-the-collector-does-not-track"),
        pytest.param("module __main__ > App > .handlers", "__main__.Session", id="a-class-attribute"),
        pytest.param("module __main__ > log > lines", "builtins.list", id="a-closure"),
        pytest.param("task main > app > ._sessions", "__main__.Session", id="an-attribute-of-a-local"),
        pytest.param("task worker > mine", "builtins.list", id="a-local-of-a-task"),
    ],
)
def test_a_growing_container_is_named_by_the_way_to_it(
    shop: dict[str, pd.DataFrame], owner: str, item_type: str
) -> None:
    found = shop["container_sizes"].query("owner == @owner").sort_values("rung")
    assert len(found) >= 5, sorted(shop["container_sizes"]["owner"].dropna().unique())
    assert found["item_type"].iloc[-1] == item_type
    assert (found["items"].diff().dropna() > 0).all()


@pytest.mark.parametrize(
    ("owner", "type_"),
    [
        pytest.param("module __main__ > EVENTS", "_queue.SimpleQueue", id="a-queue-written-in-C"),
        pytest.param("module __main__ > UPLOADS", "_io.BytesIO", id="a-file-in-memory"),
        pytest.param("module __main__ > REPORT", "_io.StringIO", id="a-text-file-in-memory"),
        pytest.param("module __main__ > App > .received", "builtins.bytearray", id="a-bytearray"),
    ],
)
def test_queues_and_buffers_are_followed_too(shop: dict[str, pd.DataFrame], owner: str, type_: str) -> None:
    found = shop["container_sizes"].query("owner == @owner").sort_values("rung")
    assert set(found["type"]) == {type_}
    assert len(found) >= 4
    assert (found["items"].diff().dropna() > 0).all()


def test_what_grows_within_a_container_that_does_not_is_seen(shop: dict[str, pd.DataFrame]) -> None:
    sizes, code = shop["container_sizes"], shop["container_code"]
    found = sizes.query("owner == 'module __main__ > HISTORY_OF'").sort_values("rung")
    assert set(found["items"]) == {40}
    assert (found["inner_items"].diff().dropna() > 0).all()
    said = code[code["container"] == found["container"].iloc[0]]
    assert said[["role", "function"]].to_numpy().tolist() == [["inserts", "main"]]


@pytest.mark.parametrize(
    ("owner", "limit"),
    [
        pytest.param("module __main__ > RING", 90_000, id="maxlen-of-a-deque"),
        pytest.param("module __main__ > compute", 80_000, id="maxsize-of-an-lru-cache"),
        pytest.param("task main > app > .cache > ._data", 100_000, id="maxsize-beside-the-dict"),
    ],
)
def test_a_container_with_a_limit_says_so(shop: dict[str, pd.DataFrame], owner: str, limit: int) -> None:
    found = shop["container_sizes"].query("owner == @owner")
    assert set(found["limit_items"]) == {limit}


def test_the_code_says_who_inserts(shop: dict[str, pd.DataFrame]) -> None:
    sizes, code = shop["container_sizes"], shop["container_code"]
    [container] = set(sizes.query("owner == 'module __main__ > SESSIONS'")["container"])
    found = code[code["container"] == container]
    assert found[["role", "function", "file", "same_class"]].to_numpy().tolist() == [
        ["evicts", "logout_all", "attach/shop.py", True],
        ["inserts", "login", "attach/shop.py", True],
        ["removes", "logout", "attach/shop.py", True],
    ]


def test_the_code_says_whether_it_has_run(shop: dict[str, pd.DataFrame]) -> None:
    code = shop["container_code"].query("function in ['login', 'logout', 'logout_all']")
    ran = {row["function"]: row["has_run"] for row in code.to_dict("records")}
    assert ran in (
        {"login": True, "logout": False, "logout_all": False},
        {"login": None, "logout": None, "logout_all": None},
    )


def test_what_code_does_to_a_local_of_a_task_is_found(shop: dict[str, pd.DataFrame]) -> None:
    sizes, code = shop["container_sizes"], shop["container_code"]
    [container] = set(sizes.query("owner == 'task worker > mine'")["container"])
    assert code[code["container"] == container][["role", "function"]].to_numpy().tolist() == [["inserts", "worker"]]


def test_a_cache_that_is_full_does_not_grow(shop: dict[str, pd.DataFrame]) -> None:
    rows = shop["container_sizes"].query("owner == 'module __main__ > RECENT'")
    assert rows.empty or rows["items"].max() <= 51


def test_the_probe_does_not_count_itself(shop: dict[str, pd.DataFrame]) -> None:
    types = shop["object_census"]["type"]
    assert not types.str.contains("perfkit").any()
    assert not shop["container_sizes"]["owner"].fillna("").str.contains("perfkit").any()


def test_the_census_says_what_it_cost(shop: dict[str, pd.DataFrame]) -> None:
    [quality] = shop["recording_quality"].to_dict("records")
    assert quality["taken"] >= 6
    assert 0 < quality["cost_ns"] < 0.5 * _LENGTH_S * 1e9
    assert "GIL was held" in quality["note"]


def test_every_forced_collection_is_on_record(shop: dict[str, pd.DataFrame]) -> None:
    settings = shop["settings"]
    assert set(settings["name"]) == {"census.forced_collection"}
    assert all({"rung", "freed", "took_ns"} == set(json.loads(value)) for value in settings["value"])


@every_version
def test_a_process_that_is_left_alone_does_not_grow(version: str, tmp_path: Path) -> None:
    with running("states.py", "sleep", python=interpreter(version)) as target:
        before = target.look()
        tables = census(target, tmp_path, length_s=1.5)
        objects = tables["object_census"].groupby("rung")["objects"].sum()
        # What the probe imports from the standard library comes with the first rungs.
        assert objects.iloc[-1] - objects.iloc[2] <= 20, objects.to_dict()
        containers = tables["container_sizes"]
        texts = containers["item_type"].isin(["builtins.str", "builtins.bytes"])
        ours = containers[(containers["type"] == "builtins.list") & ~texts]
        assert ours.empty, "the list of what is the probe's own is followed"
        after = target.look()
    assert {key: after[key] for key in after if key != "threads"} == {
        key: before[key] for key in before if key != "threads"
    }


def test_a_large_heap_is_counted_within_its_share_of_a_cpu(tmp_path: Path) -> None:
    with running("shop.py", "400000", python=same_version()) as target:
        tables = census(target, tmp_path, length_s=4.0)
    [quality] = tables["recording_quality"].to_dict("records")
    assert quality["taken"] >= 1
    [static] = tables["container_sizes"].query("items == 400000 and rung == 0")["container"].tolist()
    assert static
    assert quality["cost_ns"] < 0.4 * 4e9


def test_a_rung_that_was_cut_off_does_not_cost_the_others(tmp_path: Path) -> None:
    with running("shop.py", python=same_version()) as target:
        census(target, tmp_path, length_s=1.0)
    rows = tmp_path / "census.jsonl"
    text = rows.read_text("utf-8")
    rows.write_text(text[: len(text) - 40], "utf-8")
    (tmp_path / "end.json").unlink()
    tables = COLLECTOR.decode(Raw(tmp_path, 1, Clock.start(), Symbols(), 2_000_000_000))
    assert tables["object_census"]["rung"].to_pylist()[-1] == text.count("\n") - 2


@every_version
def test_what_a_function_keeps_of_its_own_locals_stays_as_it_is(version: str, tmp_path: Path) -> None:
    """Up to 3.12 who asks a frame for its variables gets the very dict that `locals()` gave the function."""
    with running("own_locals.py", python=interpreter(version)) as target:
        census(target, tmp_path, owners=20, max_share=0.5, every_s=0.2)
        with Session.open(target.target) as session:
            session.start("object_graph")
            session.call("object_graph", take=0, file=str(tmp_path / "graph.bin"), fork=False, max_seconds=30)
            assert eventually(lambda: not session.call("object_graph")["busy"], 30)
        process = target.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("look\n")
        process.stdin.flush()
        words = process.stdout.readline().split(maxsplit=2)
    assert int(words[0]) >= 5
    assert int(words[1]) >= 1
    assert words[2].strip() == "['begun', 'done', 'request']"
