"""Settings of the whole test suite."""

import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine may take a second for what takes a millisecond.
settings.register_profile("perfkit", deadline=None)
settings.load_profile("perfkit")

LONG = ("slow", "attach")
"""Marks of tests that begin first when several run at once, so that no long one is left over at the end."""
INTERPRETERS = Path.home() / ".pyenv" / "versions"


def pytest_configure() -> None:
    """Hear Ctrl-C also where a shell started the suite in the background: targets inherit that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what waits for real time first."""
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in LONG])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which interpreters and real parts took part."""
    versions = sorted(path.name for path in INTERPRETERS.glob("3.1[0-9]*") if (path / "bin" / "python").exists())
    folders = ":".join(["/usr/bin:/usr/sbin:/bin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    programs = [name for name in ("chromium", "nginx", "postgres", "redis-server") if shutil.which(name, path=folders)]
    terminalreporter.write_line(
        f"real parts: interpreters to attach to {', '.join(versions) or 'this one only'}; "
        f"programs {', '.join(programs) or 'none'}"
    )
