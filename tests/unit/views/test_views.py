"""Every view: something to see where there is data, one sentence where there is none, never an exception."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfkit import views
from perfkit.profile import Profile
from perfkit.views import charts
from tests.builders import (
    IMPORTS,
    LOGIN,
    SECOND_NS,
    cpu_rows,
    graph_rows,
    healthy,
    leaking,
    ledger_rows,
    make_profile,
    request_rows,
    with_sockets,
)

HOSTILE = "</script><img src=x onerror=alert(1)>"


def takes_profile(name: str) -> bool:
    """Whether a view is asked of a profile."""
    return next(iter(inspect.signature(getattr(views, name)).parameters)) == "profile"


OF_PROFILES = [name for name in views.__all__ if takes_profile(name)]


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return leaking(tmp_path_factory.mktemp("profiles") / "leak", **with_sockets(60))


@pytest.fixture(scope="module")
def two_hours(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    ledger = [{**row, "rss_bytes": row["rss_bytes"] + i % 7} for i, row in enumerate(ledger_rows(7_200, None))]
    usage = ({"at_ns": i * SECOND_NS // 8, "rss_bytes": 10**8 + i % 9, "traced_bytes": i} for i in range(57_600))
    load = {"cpu": cpu_rows(7_200, per_s=1), "requests": request_rows(7_200, per_s=2)}
    load |= graph_rows(60, None) | with_sockets(7_200)
    return leaking(tmp_path_factory.mktemp("profiles") / "long", seconds=7_200, ledger=ledger, usage=usage, **load)


def bundle(view: Any) -> dict[str, Any]:
    """Return what a notebook would store of a view."""
    shown = view._repr_mimebundle_()
    return shown[0] if isinstance(shown, tuple) else shown


@pytest.mark.parametrize("name", OF_PROFILES)
def test_view_shows_a_recording(name: str, leak: Profile) -> None:
    shown = bundle(getattr(views, name)(leak))
    assert "Nothing was recorded" not in shown["text/plain"]
    assert len(shown) >= 2


@pytest.mark.parametrize("name", [name for name in OF_PROFILES if name != "environment"])
def test_view_says_in_one_sentence_that_nothing_was_recorded(name: str, tmp_path: Path) -> None:
    text = bundle(getattr(views, name)(make_profile(tmp_path / "empty")))["text/plain"]
    assert text.startswith("Nothing was recorded: ")
    assert text.count(".") == 1


@pytest.mark.parametrize("name", OF_PROFILES)
def test_view_survives_a_recording_of_no_length(name: str, tmp_path: Path) -> None:
    at_once = {"at_ns": 0, "rss_bytes": 1, "anon_bytes": 1, "file_bytes": 0, "shmem_bytes": 0}
    request = {"intended_ns": 0, "start_ns": 0, "latency_ns": 0, "route": "a", "method": "GET"}
    sizes = {"sent_bytes": 0, "received_bytes": 0}
    sample = {"tick_ns": 0, "weight_ns": 1, "thread": "main", "stack": LOGIN, "active": None}
    kept = {"stack": IMPORTS, "allocated_ns": 0, "freed_ns": None, "allocations": 1, "size_bytes": 1}
    count = {"at_ns": 0, "rung": 0, "type": "a.B", "objects": 0}
    profile = make_profile(
        tmp_path / "short",
        duration_s=0,
        ledger=[at_once],
        requests=[request | sizes],
        cpu=[sample],
        heap=[kept],
        census=[count],
    )
    assert bundle(getattr(views, name)(profile))["text/plain"]


@pytest.mark.parametrize("name", OF_PROFILES)
def test_chart_is_never_stored_beside_html_which_untrusted_notebooks_blank(name: str, leak: Profile) -> None:
    shown = bundle(getattr(views, name)(leak))
    if charts.MIME in shown:
        assert "text/html" not in shown
        assert json.dumps(shown[charts.MIME], allow_nan=False)


@pytest.mark.parametrize("name", OF_PROFILES)
def test_chart_is_drawn_from_few_rows_however_long_the_recording(name: str, two_hours: Profile) -> None:
    shown = bundle(getattr(views, name)(two_hours))
    assert shown["text/plain"]  # Altair prints a traceback and returns nothing when there are too many rows
    assert sum(len(rows) for rows in shown.get(charts.MIME, {}).get("datasets", {}).values()) <= 5_000


@pytest.mark.parametrize("name", OF_PROFILES)
def test_view_escapes_names_that_come_from_the_target(name: str, tmp_path: Path) -> None:
    html = bundle(getattr(views, name)(hostile_profile(tmp_path / "hostile"))).get("text/html", "")
    assert "<img" not in html
    assert "</script><" not in html.replace("</script></iframe>", "")


def test_growing_container_names_its_holder(leak: Profile) -> None:
    text = bundle(views.growing_containers(leak))["text/plain"]
    assert "module app.sessions > SESSIONS" in text
    assert "ROUTES" not in text


def test_survivors_put_the_leaking_line_first_and_leave_out_the_start_up(leak: Profile) -> None:
    [first, *_] = views.survivors_by_stack(leak, warmup_s=6).rows
    assert first[0].text() == "open_session (app/sessions.py:31)"
    assert "_load" not in bundle(views.survivors_by_stack(leak, warmup_s=6))["text/plain"]


def test_sessions_that_expire_are_not_the_largest_survivors(tmp_path: Path) -> None:
    shown = views.survivors_by_stack(healthy(tmp_path / "healthy"), warmup_s=6)
    assert "960 KiB" in bundle(shown)["text/plain"]  # those of the last six seconds: 120 of 8 KiB


def hostile_profile(path: Path) -> Profile:
    """Return a recording in which every name that the target chooses tries to be markup."""
    stack = ((HOSTILE, f"/srv/{HOSTILE}.py", 1), (f"b{HOSTILE}", None, None))
    return make_profile(
        path,
        heap=[
            {"stack": stack, "allocated_ns": i * SECOND_NS, "freed_ns": None, "allocations": 1, "size_bytes": 4096}
            for i in range(1, 60)
        ],
        cpu=[
            {"tick_ns": i * SECOND_NS, "weight_ns": SECOND_NS, "thread": HOSTILE, "stack": stack, "active": True}
            for i in range(60)
        ],
        census=[
            {"at_ns": i * SECOND_NS, "rung": i, "type": HOSTILE, "objects": i, "size_bytes": i * 64} for i in range(60)
        ],
        containers=[
            {
                "at_ns": i * SECOND_NS,
                "rung": i,
                "container": "1",
                "type": HOSTILE,
                "items": i,
                "item_type": HOSTILE,
                "owner": f"module a > {HOSTILE}",
            }
            for i in range(60)
        ],
        requests=[
            {
                "intended_ns": i * SECOND_NS,
                "start_ns": i * SECOND_NS,
                "latency_ns": 10**6,
                "status": 200,
                "route": f"/{HOSTILE}",
                "method": "GET",
                "sent_bytes": 0,
                "received_bytes": 0,
            }
            for i in range(60)
        ],
        quality=[
            {"collector": HOSTILE, "from_ns": 0, "until_ns": 1, "taken": 1, "lost": 0, "note": HOSTILE, "pid": None}
        ],
        manifest={"name": f"profile {HOSTILE}", "missing": (HOSTILE,), "scenario": {"name": HOSTILE}},
    )


def test_flame_graph_counts_everything_once(leak: Profile) -> None:
    data = views.cpu_flame_graph(leak).data
    own = self_values(data)
    assert sum(own) == data["total"] == data["node_value"][0]
    assert min(own) >= 0


@pytest.mark.parametrize("least", [0.0, 0.05, 0.3])
def test_flame_graph_says_how_much_it_folded_away(least: float, leak: Profile) -> None:
    data = views.cpu_flame_graph(leak, least=least).data
    assert all(value >= least * data["total"] for value in data["node_value"])
    assert (data["folded"] > 0) == (least > 0.05)


def self_values(data: dict[str, Any]) -> list[int]:
    """Return what is left of each frame without its children."""
    own = list(data["node_value"])
    open_frames: list[int] = []
    for number, depth in enumerate(data["node_depth"]):
        del open_frames[depth:]
        if open_frames:
            own[open_frames[-1]] -= data["node_value"][number]
        open_frames.append(number)
    return own


def test_flame_graph_runs_in_a_frame_that_may_not_reach_the_notebook(leak: Profile) -> None:
    html = bundle(views.cpu_flame_graph(leak))["text/html"]
    assert 'sandbox="allow-scripts"' in html
    assert "allow-same-origin" not in html


def test_altair_is_left_alone_when_the_user_chose_a_renderer(leak: Profile) -> None:
    import altair as alt

    show: Callable[[], Any] = lambda: views.memory_over_time(leak)._repr_mimebundle_()  # noqa: E731
    with alt.renderers.enable("json"):
        show()
        assert alt.renderers.active == "json"
