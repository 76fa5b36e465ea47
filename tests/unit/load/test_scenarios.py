"""Scenarios: the ready-made ones fit the proxy and its faults; others are checked before anything starts."""

import json
from pathlib import Path

import pytest

from perfkit import scenarios
from perfkit.errors import PerfkitError, UnknownName
from perfkit.proxy.faults import FAULTS
from perfkit.scenarios import BadScenario, Scenario

MINIMAL = "doc = 'x'\n[load]\nrate_per_s = 5\n"


def written(tmp_path: Path, text: str) -> Scenario:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return scenarios.load(file)


@pytest.mark.parametrize("name", scenarios.names())
class TestReadyMade:
    def test_says_what_it_shows_and_what_must_be_found(self, name: str) -> None:
        scenario = scenarios.load(name)
        assert scenario.doc.endswith(".")
        assert scenario.expect["lossy_recording"].verdict == "pass"

    def test_expects_what_its_fault_is_known_to_cause(self, name: str) -> None:
        scenario = scenarios.load(name)
        for fault in scenario.faults:
            expected = scenario.expect[FAULTS[fault].rule]
            assert (expected.verdict, expected.class_) == ("fail", FAULTS[fault].verdict_class)
        if not scenario.faults:
            assert {expected.verdict for expected in scenario.expect.values()} == {"pass"}

    def test_gives_its_fault_the_requests_it_needs(self, name: str) -> None:
        scenario = scenarios.load(name)
        needs = {FAULTS[fault].needs for fault in scenario.faults}
        if "requests with a body" in needs:
            assert any(route.body_bytes for route in scenario.load.routes)
        if "clients that abort while they wait" in needs:
            assert scenario.load.abort_ratio > 0

    def test_stays_modest_on_a_shared_machine(self, name: str) -> None:
        scenario = scenarios.load(name)
        options = scenario.load.options("127.0.0.1", 1, scenario.record.duration_s)
        assert max(segment.end_per_s for segment in options.schedule.segments) <= 300
        assert scenario.record.duration_s + scenario.record.warmup_s <= 65

    def test_can_be_stored_in_a_manifest(self, name: str) -> None:
        scenario = scenarios.load(name)
        stored = json.loads(json.dumps(scenario.to_dict()))
        assert (stored["name"], stored["load"]["seed"]) == (name, scenario.load.seed)


def test_a_scenario_of_one_s_own_is_a_file_with_a_doc_and_a_rate(tmp_path: Path) -> None:
    scenario = written(tmp_path, MINIMAL)
    assert (scenario.name, scenario.doc, scenario.faults) == ("mine", "x", ())
    assert str(scenario.load.options("127.0.0.1", 80, 12).schedule) == "5/s for 12s"


def test_an_objective_gives_rate_and_connections(tmp_path: Path) -> None:
    scenario = written(tmp_path, "doc = 'x'\n[load]\nslo = '1200/s, p95 200 ms, errors 0.5%'\n")
    options = scenario.load.options("127.0.0.1", 80, 10)
    assert (str(options.schedule), options.max_connections) == ("1200/s for 10s", 216)


def test_a_schedule_has_its_own_length(tmp_path: Path) -> None:
    scenario = written(tmp_path, "doc = 'x'\n[load]\nschedule = '1..9/s for 3s'\n")
    assert scenario.load.options("127.0.0.1", 80, 99).schedule.duration_s == 3


def test_a_load_without_end_is_bounded_all_the_same(tmp_path: Path) -> None:
    assert written(tmp_path, MINIMAL).load.options("127.0.0.1", 80).schedule.duration_s == 3600


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("[load]\nrate_per_s = 5\n", "has no doc", id="no-doc"),
        pytest.param("doc = 'x'\n[load]\n", "gives no rate", id="no-rate"),
        pytest.param(MINIMAL + "slo = '1/s'\n", "gives rate_per_s and slo", id="two-rates"),
        pytest.param(MINIMAL + "seeed = 1\n", "Did you mean 'seed'", id="misspelt-setting-of-the-load"),
        pytest.param(MINIMAL + "arrivals = 'poison'\n", "Did you mean 'poisson'", id="misspelt-arrivals"),
        pytest.param(MINIMAL + "[[load.routes]]\npth = '/'\n", "Did you mean 'path'", id="misspelt-setting-of-a-route"),
        pytest.param(MINIMAL + "[proxy.faults]\nsesions = true\n", "did you mean 'sessions'", id="misspelt-fault"),
        pytest.param(MINIMAL + "[proxy.pool]\nmax_size = 3\n", "maximum_size", id="misspelt-setting-of-the-pool"),
        pytest.param(MINIMAL + "[upstream]\nlatncy_ms = 3\n", "Did you mean 'latency_ms'", id="misspelt-upstream"),
        pytest.param(MINIMAL + "[recrod]\n", "Did you mean 'record'", id="misspelt-table"),
        pytest.param(MINIMAL + "[record]\nduration = 3\n", "Did you mean 'duration_s'", id="misspelt-length"),
        pytest.param(
            MINIMAL + "[expect.memory_growth]\nverdict = 'fial'\n", "Did you mean 'fail'", id="misspelt-verdict"
        ),
        pytest.param(MINIMAL + "[expect]\nmemory_growth = 'fail'\n", "wrong type", id="verdict-without-a-table"),
        pytest.param("doc = 'x'\n[load]\nrate_per_s = 'fast'\n", "wrong type", id="rate-that-is-no-number"),
        pytest.param("doc =", "is not TOML", id="not-toml"),
    ],
)
def test_mistakes_are_found_before_anything_starts(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(PerfkitError, match=problem):
        written(tmp_path, text)


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'healthy'"):
        scenarios.load("helthy")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match="No such file"):
        scenarios.load(tmp_path / "none.toml")
