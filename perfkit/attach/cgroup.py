"""The only place that finds the memory cgroup of a process, version 1 or 2, and reads it."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED = 1 << 60
"""Limits from here on mean none: version 1 says "no limit" with the largest number of pages."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory of a cgroup: what it uses, the part that is droppable page cache, its limit. None is unknown or none."""

    used_bytes: int | None = None
    inactive_file_bytes: int | None = None
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """The folder of a memory cgroup, `version` 1 or 2, and the mount point above which nothing is visible."""

    folder: Path
    mount: Path
    version: int

    def read(self) -> MemoryReading:
        """Return its memory now; the limit is the tightest of the cgroup and those around it.

        Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files and
        https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
        """
        statistics = _statistics(self.folder / "memory.stat")
        if self.version == 1:
            limit = statistics.get("hierarchical_memory_limit", _number(self.folder / "memory.limit_in_bytes"))
            used = _number(self.folder / "memory.usage_in_bytes")
            inactive = statistics.get("total_inactive_file", statistics.get("inactive_file"))
        else:
            limits = [_number(folder / "memory.max") for folder in self._upwards()]
            limit = min((number for number in limits if number is not None), default=None)
            used = _number(self.folder / "memory.current")
            inactive = statistics.get("inactive_file")
        return MemoryReading(used, inactive, None if limit is None or limit >= _UNLIMITED else limit)

    def _upwards(self) -> list[Path]:
        """Return the folder and those above it, up to the mount point."""
        above = [folder for folder in self.folder.parents if folder.is_relative_to(self.mount)]
        return [self.folder, *above]


def memory_cgroup(pid: int, proc: Path = Path("/proc")) -> MemoryCgroup | None:
    """Return the memory cgroup of a process, or None when there is none or it cannot be seen from here."""
    try:
        memberships = (proc / str(pid) / "cgroup").read_text("utf-8").splitlines()
        mounts = (proc / "self" / "mountinfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    paths: dict[int, str] = {}
    for line in memberships:
        _number_of, controllers, path = line.split(":", 2)
        if not controllers:
            paths[2] = path
        elif "memory" in controllers.split(","):
            paths[1] = path
    for line in mounts:
        place, _, kind = line.partition(" - ")
        root, mount = place.split()[3:5]
        type_, _source, options = kind.split()[:3]
        version = {"cgroup2": 2, "cgroup": 1}.get(type_)
        if version not in paths or (version == 1 and "memory" not in options.split(",")):
            continue
        folder = _below(Path(mount), root, paths[version])
        found = MemoryCgroup(folder, Path(mount), version)
        if (folder / "memory.stat").exists():
            return found
    return None


def _below(mount: Path, root: str, path: str) -> Path:
    """Return where a cgroup path is visible under a mount whose own root is `root`."""
    try:
        inside = PurePosixPath(path).relative_to(root)
    except ValueError:  # another cgroup namespace: what is mounted is all there is to see
        return mount
    folder = mount / inside
    return folder if folder.exists() else mount


def _number(file: Path) -> int | None:
    """Return the number in a file; None when it is absent or says "max"."""
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _statistics(file: Path) -> dict[str, int]:
    """Return the `name number` lines of a file."""
    try:
        pairs = (line.split() for line in file.read_text("ascii").splitlines())
        return {name: int(number) for name, number in pairs}
    except (OSError, ValueError):
        return {}
