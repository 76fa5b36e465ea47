"""Findings as people write them and as machines read them."""

import json

import pytest

from perfkit.findings import Finding, Rule, Site, Verdict, to_json_form

KEYS = {
    "rule", "verdict", "class", "title", "hint", "measured", "limit", "unit", "confidence", "site", "insertion",
    "retainer", "type", "rate_bytes_per_s", "seconds_to_limit", "pid", "evidence", "needs",
}  # fmt: skip


@pytest.mark.parametrize(
    ("site", "text"),
    [
        (Site("login", "app/views.py", 88), "login (app/views.py:88)"),
        (Site("login", "app/views.py"), "login (app/views.py)"),
        (Site("malloc"), "malloc"),
    ],
)
def test_site_reads_well(site: Site, text: str) -> None:
    assert str(site) == text


def test_json_form_has_the_keys_that_outsiders_rely_on() -> None:
    finding = Finding("r", Verdict.FAIL, "python_leak", "t", "h", site=Site("f", "x.py", 1), retainer=("module a", "B"))
    form = json.loads(json.dumps(to_json_form("p", [finding]), allow_nan=False))
    assert (form["profile"], form["schema"]) == ("p", 1)
    [answer] = form["findings"]
    assert answer.keys() == KEYS
    assert (answer["class"], answer["verdict"]) == ("python_leak", "fail")
    assert answer["site"] == {"function": "f", "file": "x.py", "line": 1}


def test_too_little_data_is_no_pass() -> None:
    assert [str(verdict) for verdict in Verdict] == ["fail", "undecided", "pass"]


def test_anything_with_check_is_a_rule() -> None:
    class Always:
        def check(self, profile: object) -> list[Finding]:
            return []

    assert isinstance(Always(), Rule)
    assert not isinstance(object(), Rule)
