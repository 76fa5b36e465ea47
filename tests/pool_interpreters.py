"""Interpreters that have the libraries with pools which need no server, made once and kept in the user's cache."""

import fcntl
import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.attach_targets import interpreter

LIBRARIES = ("httpcore==1.0.9", "httpx", "requests", "sqlalchemy")
_CACHE = Path.home() / ".cache" / "perfkit-tests"


def with_libraries(version: str) -> Path:
    """Return an interpreter of that version with the libraries; skips the test where they cannot be had."""
    plain = interpreter(version)
    name = hashlib.sha256(f"{plain} {LIBRARIES}".encode()).hexdigest()[:12]
    folder = _CACHE / f"pools-{version}-{name}"
    python = folder / "bin" / "python"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            subprocess.run([plain, "-m", "venv", "--clear", folder], check=True, timeout=240)
            command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *LIBRARIES]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode:
                pytest.skip(f"the libraries cannot be installed for {version}: {done.stderr[-200:]}")
            (folder / "ready").touch()
    return python
