"""The verdict of a report is the worst of its findings, and it is said in full."""

from dataclasses import replace

import pytest

from perfkit import views
from perfkit.findings import Finding, Site, Verdict
from perfkit.views.verdict import conclude, evidence_table


def finding(rule: str, verdict: Verdict, **more: object) -> Finding:
    """Return a finding whose title names its rule."""
    return Finding(rule=rule, verdict=verdict, class_="none", title=f"{rule} says so", hint="do it", **more)  # type: ignore[arg-type]


FAIL, PASS, OPEN = Verdict.FAIL, Verdict.PASS, Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("findings", "verdict", "sentence"),
    [
        pytest.param([("b", PASS), ("b", FAIL), ("c", OPEN)], "fail", "b says so", id="one-failure-decides"),
        pytest.param([("a", PASS), ("b", OPEN)], "undecided", "b says so", id="undecided-is-not-a-pass"),
        pytest.param([("a", FAIL), ("b", PASS)], "pass", "b says so", id="another-question-is-another-report"),
        pytest.param([("a", FAIL), ("c", PASS)], "fail", "a says so", id="all-count-where-its-own-rules-said-nothing"),
        pytest.param(
            [("lossy_recording", FAIL), ("b", PASS)], "fail", "lossy_recording says so", id="a-spoilt-recording"
        ),
        pytest.param([("lossy_recording", OPEN), ("b", PASS)], "pass", "b says so", id="a-gap-in-the-recording"),
        pytest.param([("a", PASS), ("b", PASS)], "pass", "b says so", id="all-pass"),
        pytest.param([("a", FAIL), ("b", FAIL)], "fail", "b says so", id="the-question-asked-comes-first"),
        pytest.param([], "undecided", "No rule looked at this recording.", id="no-rule-no-pass"),
    ],
)
def test_conclusion(findings: list[tuple[str, Verdict]], verdict: str, sentence: str) -> None:
    answer = conclude([finding(*each) for each in findings], first=["b"])
    assert (answer.verdict, answer.sentence) == (verdict, sentence)


def test_evidence_names_the_line_the_chain_the_rate_and_the_time_left() -> None:
    table = evidence_table(
        finding(
            "memory_growth",
            FAIL,
            site=Site("login", "app/views.py", 88),
            insertion=Site("login", "app/views.py", 88),
            retainer=("module app.sessions", "SESSIONS"),
            rate_bytes_per_s=(1024.0, 2048.0, 4096.0),
            seconds_to_limit=(60.0, 120.0, None),
        )
    )
    assert table is not None
    assert {str(row[0]): row[1].text() for row in table.rows} == {  # type: ignore[union-attr]
        "grows by": "2 KiB/s (95 % interval: 1 KiB/s to 4 KiB/s)",
        "limit reached in": "2 min (95 % interval: 60 s to never)",
        "allocated in": "login (app/views.py:88)",
        "kept alive by": "module app.sessions > SESSIONS",
    }


@pytest.mark.parametrize(
    ("rule", "evidence", "label"),
    [
        pytest.param("checkout_leak", {"limit": 128}, "pool used up in", id="a-pool"),
        pytest.param(
            "memory_growth", {"limit": {"of": "memory of the host"}}, "memory of the host reached in", id="host"
        ),
        pytest.param("memory_growth", {}, "limit reached in", id="a-limit-of-which-nothing-is-known"),
    ],
)
def test_time_left_says_until_what(rule: str, evidence: dict[str, object], label: str) -> None:
    table = evidence_table(finding(rule, FAIL, evidence=evidence, seconds_to_limit=(1.0, 2.0, 3.0)))
    assert table is not None
    assert table.rows[0][0] == label


def test_passes_that_no_data_would_turn_are_one_sentence() -> None:
    shown = views.open_questions(
        [finding("a", FAIL), finding("b", PASS), finding("c", PASS), finding("d", PASS, needs=("x",))]
    )
    assert [row[1] for row in shown.rows] == ["a", "d"]  # type: ignore[union-attr]
    assert shown.notes == ("Passed, and the data decide it: b, c.",)  # type: ignore[union-attr]


def test_code_in_a_remedy_is_shown_as_code_and_nothing_else_is() -> None:
    html = views.next_steps([replace(finding("a", FAIL), hint="use `with <x>`")])._repr_mimebundle_()["text/html"]
    assert "use <code>with &lt;x&gt;</code>" in html


def test_next_steps_leave_out_what_passed() -> None:
    shown = views.next_steps([finding("a", FAIL), finding("b", PASS)])
    assert len(shown.rows) == 1  # type: ignore[union-attr]
    assert "Nothing to do" in views.next_steps([finding("b", PASS)])._repr_mimebundle_()["text/plain"]


def test_markup_in_a_title_is_text() -> None:
    hostile = finding("<img src=x onerror=alert(1)>", FAIL)
    assert "<img" not in views.verdict([hostile])._repr_mimebundle_()["text/html"]
