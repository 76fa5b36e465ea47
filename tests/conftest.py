"""Settings of the whole test suite."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine may take a second for what takes a millisecond.
settings.register_profile("perfkit", deadline=None)
settings.load_profile("perfkit")

INTERPRETERS = Path.home() / ".pyenv" / "versions"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which interpreters and real parts took part."""
    versions = sorted(path.name for path in INTERPRETERS.glob("3.1[0-9]*") if (path / "bin" / "python").exists())
    programs = [name for name in ("chromium", "nginx") if shutil.which(name, path="/usr/bin:/usr/sbin:/bin")]
    terminalreporter.write_line(
        f"real parts: interpreters to attach to {', '.join(versions) or 'this one only'}; "
        f"programs {', '.join(programs) or 'none'}"
    )
