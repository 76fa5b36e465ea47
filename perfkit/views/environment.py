"""Where and with what was it recorded?"""

from datetime import UTC, datetime

from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, seconds_text
from perfkit.views.display import Cell, PlainTable

_HOST = {"system": "system", "machine": "machine", "kernel": "kernel", "cores": "CPU cores", "cpu": "CPU model"}
"""Keys of the manifest's host that may be shown; everything else (names, paths) stays out of reports."""


def environment(profile: Profile) -> PlainTable:
    """Return when, where and with which tools it was recorded: no arguments, no environment variables, no host name."""
    manifest = profile.manifest
    started = datetime.fromtimestamp(manifest.started_unix_ns // 1_000_000_000, UTC)
    rows: list[list[Cell]] = [
        ["profile", manifest.name],
        ["recorded", f"{started:%Y-%m-%d %H:%M:%S} UTC, for {seconds_text(profile.duration_s)}"],
    ]
    if manifest.scenario:
        rows.append(["scenario", str(manifest.scenario.get("name", "unnamed"))])
    for target in manifest.targets:
        program = str(target.get("program", "unknown")).rpartition("/")[2]
        version = f", Python {_version(target['python'])}" if target.get("python") else ""
        rows.append([f"process {target['pid']}", f"{program}{version}"])
    rows += [[label, str(manifest.host[key])] for key, label in _HOST.items() if manifest.host.get(key) is not None]
    if memory := manifest.host.get("memory_bytes"):
        rows.append(["memory of the host", bytes_text(float(memory))])
    tools = {"perfkit": manifest.perfkit} | manifest.tools
    rows.append(["tools", ", ".join(f"{name} {version}" for name, version in sorted(tools.items()))])
    if manifest.collectors:
        rows.append(["collectors", ", ".join(sorted(manifest.collectors))])
    rows.append(["rows stored", count_text(sum(manifest.rows.values()))])
    rows.append(["complete", "yes" if manifest.complete else "no: " + "; ".join(manifest.missing or ("unknown why",))])
    return PlainTable(("", ""), rows)


def _version(python: object) -> str:
    """Return a version written as text or as numbers."""
    return ".".join(str(part) for part in python) if isinstance(python, list | tuple) else str(python)
