"""The only place that knows which memray fits which interpreter, and where it is kept.

A target need not have memray installed; it gets ours, which must have been built for its
minor version of Python. Ours fits targets of our own version; for others perfkit keeps builds in
its cache, one folder per version, which holds nothing but memray.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from perfkit.attach.target import Target
from perfkit.errors import CannotRecord

_OURS = ("memray", "memray.libs")


class NoMemray(CannotRecord):
    """There is no memray for the target's interpreter yet."""

    def __init__(self, pid: int, python: str) -> None:
        super().__init__(f"process {pid} runs Python {python}, for which there is no memray here yet")
        self.hint = f"Fetch it once with `perfkit doctor --pid {pid} --fix`, or record with `--fetch`."
        self.pid = pid


class FetchFailed(CannotRecord):
    """pip did not deliver memray for another version of Python."""

    hint = "Make sure that pip can reach a package index, or record without the heap: `--collect cpu,process,objects`."


def build_for(target: Target) -> Path:
    """Return a folder that holds nothing but a memray which the target can import.

    Raises:
        NoMemray: none is at hand; `fetch` gets one.
    """
    folder = _folder(target)
    if (folder / "memray" / "__init__.py").exists():
        return folder
    if target.python[:2] == sys.version_info[:2] and not target.free_threaded:
        import memray

        source = Path(memray.__file__).parent.parent
        # Built aside and renamed: two recorders may do this at the same time.
        aside = Path(tempfile.mkdtemp(dir=_cache()))
        for name in _OURS:
            if (source / name).exists():
                shutil.copytree(source / name, aside / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyx"))
        return _publish(aside, folder)
    raise NoMemray(target.pid, target.version)


def fetch(target: Target, *, timeout_s: float = 120.0) -> Path:
    """Return the folder of `build_for`, after downloading memray into it with pip if need be.

    Raises:
        FetchFailed: pip did not find or get it.
    """
    with suppress(NoMemray):
        return build_for(target)
    minor = f"{target.python[0]}{target.python[1]}"
    machine = platform.machine()
    platforms = [f"manylinux_2_{glibc}_{machine}" for glibc in (28, 27, 17, 12, 5)] + [f"manylinux2014_{machine}"]
    if _uses_musl(target):
        platforms = [f"musllinux_1_{minor_version}_{machine}" for minor_version in (2, 1)]
    with tempfile.TemporaryDirectory(dir=_cache()) as downloads:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
            "--dest", downloads, "--implementation", "cp", "--python-version", minor,
            "--abi", f"cp{minor}{'t' if target.free_threaded else ''}",
            *(word for name in platforms for word in ("--platform", name)),
            f"memray=={version('memray')}",
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
            raise FetchFailed(f"pip has no memray for Python {target.version}: {' '.join(lines[-1:])}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchFailed(f"pip could not download memray for Python {target.version}: {error}") from error
        aside = Path(tempfile.mkdtemp(dir=_cache()))
        for wheel in Path(downloads).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(aside, [name for name in archive.namelist() if name.split("/")[0] in _OURS])
        return _publish(aside, _folder(target))


def _folder(target: Target) -> Path:
    """Return where the build for a target's interpreter belongs."""
    tag = f"cp{target.python[0]}{target.python[1]}{'t' if target.free_threaded else ''}"
    return _cache() / f"{tag}-{version('memray')}{'-musl' if _uses_musl(target) else ''}"


def _cache() -> Path:
    """Return perfkit's folder of memray builds, made if needed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "perfkit" / "memray"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _publish(aside: Path, folder: Path) -> Path:
    """Give a complete build its name; return the folder, ours or that of someone who was faster."""
    aside.chmod(0o755)
    try:
        aside.rename(folder)
    except OSError:
        shutil.rmtree(aside)
    return folder


def _uses_musl(target: Target) -> bool:
    """Whether the target's C library is musl."""
    from perfkit.attach.target import mappings

    with suppress(CannotRecord):
        return any("musl" in mapping.path.name for mapping in mappings(target.pid))
    return False
