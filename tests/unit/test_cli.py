"""The command line: exit codes, errors with a remedy, JSON for programs, and a fast --help."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from perfkit import cli, record
from perfkit.errors import CannotRecord, ProfileError


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

    monkeypatch.setattr(record, "record_pid", refuse)
    code, out, err = run("record", "--pid", "99")
    assert code == 3
    assert out == ""
    assert "process 99 is not Python" in err
    assert "Give the id of a Python process." in err


def test_errors_are_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ProfileError("the folder is not empty", hint="Choose another.")

    monkeypatch.setattr(record, "record_pid", refuse)
    code, out, _ = run("record", "--pid", "99", "--json")
    assert code == 2
    assert json.loads(out) == {
        "error": {"type": "ProfileError", "message": "the folder is not empty", "hint": "Choose another."}
    }


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from perfkit.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pyarrow", "pandas", "altair", "duckdb", "rich", "scipy", "memray"} & set(modules)
