"""What is said from outside about clients of real libraries: each defect is named, and no healthy one."""

from pathlib import Path

import pytest

from perfkit.checks import check
from perfkit.findings import Finding
from tests.socket_corpus import CASES, RULES, Case, failing, recorded

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.recording, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Finding], dict[str, int]]:
    """Return the findings over one recording of all cases."""
    profile, pids = recorded(Path(tmp_path_factory.mktemp("corpus")) / "all", 35.0)
    return [finding for rule in RULES for finding in check(profile, rule)], pids


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_planted_defect_is_found_and_nothing_else(
    case: Case, answers: tuple[list[Finding], dict[str, int]]
) -> None:
    findings, pids = answers
    mine = [finding for finding in findings if finding.pid == pids[case.name]]
    assert failing(mine, pids[case.name]) == ({case.rule} if case.rule else set()), [f.title for f in mine]
    for finding in mine:
        if finding.verdict == "fail":
            assert finding.evidence["peer"].startswith("127.0.0.1:")
            assert finding.evidence["direction"] == "upstream"
