"""Every committed profile: the rules find what was planted, nothing else, and say the same as before."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perfkit import scenarios
from perfkit.checks import check
from perfkit.findings import Finding, Site, to_json_form
from perfkit.profile import MANIFEST, Profile
from perfkit.proxy.faults import FAULTS
from perfkit.rules import rules

HERE = Path(__file__).parent
PROFILES = sorted(file.parent for file in (HERE.parents[1] / "profiles").glob(f"*/{MANIFEST}"))

pytestmark = pytest.mark.parametrize("folder", PROFILES, ids=lambda folder: folder.name)


@cache
def findings(folder: Path) -> list[Finding]:
    """Return what all rules say of a profile; asked once."""
    return check(Profile(folder))


def test_every_rule_answers_as_the_scenario_expects(folder: Path) -> None:
    profile = Profile(folder)
    assert profile.manifest.scenario, "a committed profile is a recording of a scenario"
    expected = scenarios.load(profile.manifest.scenario["name"]).expect
    answered = findings(folder)
    for rule, expectation in expected.items():
        if rule not in rules():
            continue  # scenarios also hold the ground truth for rules to come
        answers = [finding for finding in answered if finding.rule == rule]
        assert answers, f"there is no answer of {rule}"
        for finding in answers:
            assert finding.verdict == expectation.verdict, finding.title
            if expectation.class_ is not None:
                assert finding.class_ == expectation.class_, finding.title


def test_nothing_fails_that_was_not_planted(folder: Path) -> None:
    profile = Profile(folder)
    expected = scenarios.load((profile.manifest.scenario or {})["name"]).expect
    failing = {finding.rule for finding in findings(folder) if finding.verdict == "fail"}
    assert failing <= {rule for rule, expectation in expected.items() if expectation.verdict == "fail"}


def test_the_planted_line_and_container_are_named(folder: Path) -> None:
    scenario = Profile(folder).manifest.scenario or {}
    planted = [FAULTS[name] for name, on in scenario.get("proxy", {}).get("faults", {}).items() if on]
    for fault in planted:
        for finding in (each for each in findings(folder) if each.rule == fault.rule):
            assert finding.class_ == fault.verdict_class, finding.title
            if fault.allocates_in and "heap_survival" in Profile(folder).manifest.rows:
                assert finding.site is not None, finding.title
                assert fault.allocates_in.rpartition(".")[2] in functions_below(Profile(folder), finding.site)
            # What keeps connections taken is no container: the rules about pools name a line.
            if fault.held_by and fault.rule == "memory_growth":
                assert masked(finding.retainer) == fault.held_by


def functions_below(profile: Profile, site: Site) -> set[str]:
    """Return the functions that a site is reached through, itself included: a constructor has its caller."""
    answer = profile.sql(
        """
        select distinct caller.function from frames as caller
        join stack_frames as lower using (frame_id)
        join stack_frames as upper on upper.stack_id = lower.stack_id and upper.pos in (lower.pos, lower.pos + 1)
        join frames as site on site.frame_id = upper.frame_id
        where site.function = $function and site.line = $line
        """,
        function=site.function,
        line=site.line,
    )
    return {name.rpartition(".")[2] for name in answer.function}


def masked(retainer: tuple[str, ...]) -> str:
    """Return a retaining path as the ground truth writes it: without the kind of each step and the container's type."""
    steps = [step.rpartition(" ")[2].removeprefix(".") for step in retainer[:-1]]
    return ".".join(steps)


def test_same_findings_as_before(folder: Path) -> None:
    file = HERE / f"{folder.name}.json"
    now = json.loads(json.dumps(to_json_form(folder.name, findings(folder)), allow_nan=False))
    if os.environ.get("PERFKIT_GOLDEN") == "write":
        file.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert file.exists(), f"write it with PERFKIT_GOLDEN=write pytest {HERE.name}, and look at it"
    assert rounded(now) == rounded(json.loads(file.read_text("utf-8")))


def rounded(value: Any) -> Any:
    """Return findings with numbers to six digits: the last ones differ between machines."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def test_same_answer_every_time(folder: Path) -> None:
    first, second = (to_json_form(folder.name, each) for each in (findings(folder), check(Profile(folder))))
    assert json.dumps(first) == json.dumps(second)
