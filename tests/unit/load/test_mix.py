"""Requests as bytes: random parts, weights, trace ids, and nothing that could be smuggled in."""

import re
from collections import Counter

import pytest

from perfkit.errors import PerfkitError
from perfkit.load.mix import Mix
from perfkit.load.options import LoadOptions, NotLoopback, Route, split_target
from perfkit.load.schedule import Schedule


def paths(route: Route, count: int = 200, seed: int = 0) -> list[str]:
    mix = Mix([route], "127.0.0.1:80", seed)
    return [mix.draw().payload.split(b" ")[1].decode() for _ in range(count)]


def test_a_request_is_complete() -> None:
    mix = Mix([Route("upload", "POST", "/a%20b", body_bytes=70_000, headers={"X-Level": "100%"})], "127.0.0.1:81")
    number, trace, payload, body_bytes = mix.draw()
    head, _, body = payload.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a%20b HTTP/1.1"
    assert {"Host: 127.0.0.1:81", "X-Level: 100%", "Content-Length: 70000"} <= set(lines)
    assert re.search(rf"\r\ntraceparent: 00-{trace:032x}-[0-9a-f]{{16}}-01$", head.decode())
    assert (number, body_bytes, len(body)) == (0, 70_000, 70_000)


def test_a_host_of_one_s_own_replaces_the_target_s() -> None:
    payload = Mix([Route(headers={"host": "shop.example"})], "127.0.0.1:81").draw().payload.lower()
    assert payload.count(b"host:") == 1
    assert b"\r\nhost: shop.example\r\n" in payload


def test_new_sessions_never_repeat_and_given_ones_do() -> None:
    assert len(set(paths(Route(path="/u/{session}")))) == 200
    assert len(set(paths(Route(path="/u/{session:5}")))) == 5


def test_numbers_count_up_or_stay_below_their_bound() -> None:
    assert paths(Route(path="/{n}"), 3) == ["/0", "/1", "/2"]
    assert {int(path[1:]) for path in paths(Route(path="/{n:4}"))} == {0, 1, 2, 3}


def test_one_request_has_one_session_in_all_its_places() -> None:
    payload = Mix([Route(path="/u/{session}", headers={"Cookie": "id={session}"})], "h").draw().payload.decode()
    first, second = re.findall(r"[0-9a-f]{32}(?= HTTP|\r)", payload)
    assert first == second


def test_the_seed_repeats_the_requests_but_not_their_trace_ids() -> None:
    route = Route(path="/u/{session}")
    assert paths(route, seed=4) == paths(route, seed=4) != paths(route, seed=5)
    assert Mix([route], "h", 4).draw().trace != Mix([route], "h", 4).draw().trace


def test_routes_get_the_share_of_their_weight() -> None:
    mix = Mix([Route("often", weight=3), Route("rare", weight=1), Route("never", weight=0)], "h")
    shares = Counter(mix.draw().route for _ in range(4000))
    assert shares[0] / 4000 == pytest.approx(0.75, abs=0.04)
    assert shares[2] == 0


def test_bodies_differ_between_requests() -> None:
    mix = Mix([Route("upload", "POST", body_bytes=64)], "h")
    assert len({mix.draw().payload[-64:] for _ in range(20)}) > 15


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        pytest.param({"path": "/x y"}, "blank or control", id="blank-in-the-path"),
        pytest.param({"path": "/\r\nX: y"}, "blank or control", id="line-break-in-the-path"),
        pytest.param({"headers": {"X": "a\r\nY: b"}}, "line break", id="line-break-in-a-header"),
        pytest.param({"headers": {"X Y": "a"}}, "cannot set the header 'X Y'", id="blank-in-a-header-name"),
        pytest.param({"headers": {"content-LENGTH": "1"}}, "cannot set the header", id="length-of-one-s-own"),
        pytest.param({"path": "/{sesion}"}, "Did you mean 'session'", id="misspelt-placeholder"),
        pytest.param({"path": "x"}, "does not start with a slash", id="relative-path"),
        pytest.param({"method": "HEAD"}, "no method named 'HEAD'", id="method-whose-answer-has-no-body"),
        pytest.param({"body_bytes": -1}, "negative weight or an impossible", id="negative-body"),
    ],
)
def test_routes_that_make_no_request_are_refused(route: dict[str, object], problem: str) -> None:
    with pytest.raises(PerfkitError, match=problem):
        Mix([Route(**route)], "h")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org", "0.0.0.0", "127.0.0.1.example.org"])
def test_other_machines_are_refused_unless_allowed(host: str) -> None:
    schedule = Schedule.parse("1/s for 1s")
    with pytest.raises(NotLoopback) as caught:
        LoadOptions(host, 80, schedule)
    assert caught.value.host == host
    assert LoadOptions(host, 80, schedule, allow_remote=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_this_machine_is_accepted(host: str) -> None:
    assert LoadOptions(host, 80, Schedule.parse("1/s for 1s")).host == host


def test_options_survive_their_file() -> None:
    options = LoadOptions(
        "127.0.0.1", 8080, Schedule.parse("1..9/s for 2s, 3/s for 1s", "constant", 5),
        (Route("a", "POST", "/{n}", 2.0, {"X": "{session:3}"}, 10), Route("b")), 7, 3, 1.5, 99, 0.1, 0.2, 0.3,
    )  # fmt: skip
    assert LoadOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8080/", ("127.0.0.1", 8080)),
        ("localhost:81", ("localhost", 81)),
        ("http://[::1]:82", ("::1", 82)),
        ("http://127.0.0.1", ("127.0.0.1", 80)),
    ],
)
def test_addresses_are_read(url: str, target: tuple[str, int]) -> None:
    assert split_target(url) == target


@pytest.mark.parametrize("url", ["https://127.0.0.1", "http://", "http://127.0.0.1:99999"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(PerfkitError):
        split_target(url)
