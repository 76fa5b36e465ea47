"""What a report must not tell about the host it was made on."""

import sys
from pathlib import Path

import pytest

from perfkit.report.redact import Redactor


@pytest.fixture
def redactor(tmp_path: Path) -> Redactor:
    return Redactor(tmp_path / "profiles" / "shop", "shop")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/jane/shop/app.py:3", "~/shop/app.py:3"),
        ('"/Users/jane/x"', '"~/x"'),
        ("in /root/x.py", "in ~/x.py"),
        ("/opt/venv/lib/python3.11/site-packages/flask/app.py", "flask/app.py"),
        ("/usr/lib/python3.12/json/__init__.py", "json/__init__.py"),
        ("/tmp/ipykernel_123/456.py in <module>", "cell in <module>"),
        ("<Thing at 0x7f3a5c001d30>", "<Thing at 0x…>"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a ratio of 1/root", "a ratio of 1/root"),
        ("/srv/app/views.py", "/srv/app/views.py"),
    ],
)
def test_text(redactor: Redactor, text: str, shown: str) -> None:
    assert redactor.text(text) == shown


def test_where_the_profile_lies_is_shortened_to_its_name(redactor: Redactor, tmp_path: Path) -> None:
    assert redactor.text(f"open {tmp_path}/profiles/shop/tables") == "open shop/tables"


def test_where_python_is_installed_is_left_out(redactor: Redactor) -> None:
    assert sys.prefix not in redactor.text(f"{sys.prefix}/bin/python")


def test_json_is_redacted_down_to_its_leaves(redactor: Redactor) -> None:
    assert redactor.tree({"/home/a/b": ["/home/a/c", 1, None, ("/home/a/d",)]}) == {"~/b": ["~/c", 1, None, ["~/d"]]}
