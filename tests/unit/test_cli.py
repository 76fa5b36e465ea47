"""The command line: exit codes, errors with a remedy, JSON for programs, and a fast --help."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from perfkit import cli, recordings
from perfkit.collectors import collectors
from perfkit.errors import CannotRecord, ProfileError
from perfkit.findings import Finding, Verdict
from perfkit.report import notebook_names
from tests.builders import make_profile

PROFILES = Path(__file__).parents[2] / "profiles"


def run(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of one call."""
    result = CliRunner().invoke(cli.main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("record",), "say what to record", id="nothing-to-record"),
        pytest.param(("record", "--pid", "99", "--scenario", "healthy"), "say what to record", id="two-targets"),
        pytest.param(("record", "--pid", "99", "-d", "soon"), "'soon' is not a length of time", id="bad-duration"),
        pytest.param(("record", "--scenario", "helthy"), "Did you mean 'healthy'?", id="misspelt-scenario"),
        pytest.param(("record", "--pid", "99", "--set", "rate=1"), "no collector named 'rate'", id="unknown-option"),
        pytest.param(("check", "nowhere"), "nowhere is not a profile", id="no-profile"),
    ],
)
def test_wrong_use_exits_2_and_says_what_to_do(arguments: tuple[str, ...], message: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 2, "one sentence and one remedy"


def test_impossible_recordings_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CannotRecord("process 99 is not Python", hint="Give the id of a Python process.")

    monkeypatch.setattr(recordings, "record_pid", refuse)
    code, out, err = run("record", "--pid", "99")
    assert code == 3
    assert out == ""
    assert "process 99 is not Python" in err
    assert "Give the id of a Python process." in err


def test_process_1_is_a_service_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(recordings, "record_pid", lambda pid, *_: asked.append(pid) or refuse_all())

    def refuse_all() -> None:
        raise CannotRecord("not here")

    assert run("record", "--pid", "1")[0] == 3
    assert asked == [1]
    assert run("record", "--pid", "0")[0] == 2


def test_errors_are_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ProfileError("the folder is not empty", hint="Choose another.")

    monkeypatch.setattr(recordings, "record_pid", refuse)
    code, out, _ = run("record", "--pid", "99", "--json")
    assert code == 2
    assert json.loads(out) == {
        "error": {"type": "ProfileError", "message": "the folder is not empty", "hint": "Choose another."}
    }


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("record", "--pid", "soon"), id="no-number"),
        pytest.param(("check",), id="no-folder"),
        pytest.param(("chekc", "x"), id="no-such-command"),
    ],
)
def test_wrong_use_of_the_command_line_is_json_too(arguments: tuple[str, ...]) -> None:
    code, out, _ = run(*arguments, "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert error["type"] == "UsageError"
    assert error["message"]
    assert error["hint"].startswith("Try `")


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from perfkit.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pyarrow", "pandas", "altair", "duckdb", "rich", "scipy", "memray"} & set(modules)


def finding(rule: str, verdict: Verdict, title: str) -> Finding:
    return Finding(rule, verdict, "none", title, "Do it.")


def shown(capsys: pytest.CaptureFixture[str], *findings: Finding) -> list[str]:
    cli._show(list(findings))
    return capsys.readouterr().out.splitlines()


def test_what_several_rules_say_alike_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(
        capsys, *(finding(rule, Verdict.PASS, "No pool") for rule in "ab"), finding("c", Verdict.PASS, "Flat")
    )
    assert lines == ["PASS      No pool: a, b", "PASS      c: Flat"]


def test_passes_are_only_named_beside_what_asks_for_something(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, finding("a", Verdict.FAIL, "It grows"), *(finding(rule, Verdict.PASS, rule) for rule in "bc"))
    assert lines == ["FAIL      a: It grows", "          next          Do it.", "PASS      b, c"]


def test_help_names_every_notebook_and_group_there_is() -> None:
    _, report_help, _ = run("report", "--help")
    assert set(notebook_names()) <= set(re.findall(r"\w+", report_help))
    _, record_help, _ = run("record", "--help")
    assert {each.group for each in collectors().values() if not getattr(each, "on_request", False)} <= set(
        re.findall(r"\w+", record_help)
    )


def test_folder_of_profiles_is_not_one_but_names_one(tmp_path: Path) -> None:
    make_profile(tmp_path / "tuesday")
    code, _, err = run("check", str(tmp_path))
    assert code == 2
    assert str(tmp_path / "tuesday") in err


def test_report_is_not_written_over_a_folder(tmp_path: Path) -> None:
    make_profile(tmp_path / "tuesday")
    code, _, err = run("report", str(tmp_path / "tuesday"), "-o", str(tmp_path))
    assert code == 2
    assert f"{tmp_path} is a folder" in err


def test_example_in_a_remedy_is_of_the_option_that_was_given() -> None:
    assert "--set pyspy_stacks.rate_hz=50" in run("record", "--pid", "99", "--set", "rate")[2]
    assert "-p warmup_s=10" in run("report", str(PROFILES / "healthy"), "-p", "rate")[2]
