"""The right answers about the collector: services of known truth, settings proved on the live process, false alarms.

    python -m benchmarks.gc_tuning [--seconds 20] [--versions 3.11,3.13] [--only burst] [--experiments] [--noise 20]

Prints one row per service and version; --out FILE keeps the numbers as JSON. The services and their truth are in
tests/targets/gc/services; with --experiments, settings are tried on those whose truth is a setting, and the
prediction of the recording is set against what was measured; --noise repeats an experiment of the present setting
against itself and counts how often a difference is called clear.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfkit.analysis.gc_case import gather
from perfkit.confirmation import thresholds_of
from perfkit.decode import open_profile
from perfkit.experiment import experiment
from perfkit.experiments import Plan
from perfkit.experiments.gc import KIND
from perfkit.findings import Finding
from perfkit.recorder import Settings
from perfkit.recordings import record_pid
from perfkit.rules.gc_tuning import RULE

SERVICES = Path(__file__).parents[1] / "tests" / "targets" / "gc" / "services"
COLLECT = ("gc", "process", "cpu", "objects")


def interpreter(version: str) -> Path | None:
    """Return an interpreter of that version."""
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    return found[-1] if found else None


@contextmanager
def running(service: str, python: Path) -> Iterator[int]:
    """Yield the process id of a service that serves."""
    process = subprocess.Popen(
        [str(python), str(SERVICES / f"{service}.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().split()[1])
    finally:
        process.terminate()
        process.communicate()


def problems(finding: Finding, truth: dict[str, Any]) -> list[str]:
    """Return what an answer gets wrong."""
    wrong = []
    if finding.class_ not in truth["classes"] or finding.verdict != truth["verdict"]:
        wrong.append(f"says {finding.verdict} {finding.class_}, not {' or '.join(truth['classes'])}")
    if truth["verdict"] == "pass" and "recommendation" in finding.evidence:
        wrong.append("recommends a setting to a healthy service")
    named = " ".join([str(finding.type), *(str(kind["type"]) for kind in finding.evidence.get("garbage", ()))])
    wrong += [f"does not name the type {name}" for name in truth.get("types", ()) if name not in named]
    if "site" in truth and not str(finding.site).startswith(truth["site"]):
        wrong.append(f"names {finding.site}, not {truth['site']}")
    return wrong


def classified(services: dict[str, Any], versions: list[str], seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Return one row per service and version: what the rule says of a recording."""
    rows = []
    for version in versions:
        python = interpreter(version)
        for name, truth in services.items() if python else ():
            with running(name, python) as pid:
                settings = Settings(output=folder / f"{name}-{version}", duration_s=seconds, collect=COLLECT)
                [finding] = RULE.check(record_pid(pid, settings))
            wrong = problems(finding, truth)
            cost = finding.evidence.get("automatic_ratio", 0.0) + finding.evidence.get("manual_ratio", 0.0)
            rows.append(
                {"service": name, "python": version, "class": finding.class_, "cost_ratio": cost,
                 "right": not wrong, "wrong": wrong, "predicted": finding.evidence.get("predicted")}
            )  # fmt: skip
            print(f"{name:16} {version:5} {finding.class_:17} {cost:7.1%}  {'; '.join(wrong) or 'right'}", flush=True)
    return rows


def proved(rows: list[dict[str, Any]], window_s: float, folder: Path) -> list[dict[str, Any]]:
    """Return one row per service for which a setting was predicted: what an experiment on the live process measured."""
    found = []
    for row in rows:
        python = interpreter(row["python"])
        if not row["predicted"] or python is None:
            continue
        with running(row["service"], python) as pid:
            plan = Plan(window_s=window_s, washout_s=window_s / 4)
            output = folder / f"experiment-{row['service']}-{row['python']}"
            [finding] = RULE.check(experiment(KIND, pid, plan, output))
        tried = finding.evidence["experiment"]
        recording = folder / f"{row['service']}-{row['python']}"
        for setting, trial in tried["settings"].items():
            measured = trial["effects"]["time_ratio"]
            base = trial["baseline"]["time_ratio"]
            left = predicted_left(recording, setting)
            # The same machine may be busier by now: what is predicted is the share that is saved.
            predicted = base * (left - 1) if left is not None else None
            inside = measured["low"] <= predicted <= measured["high"] if predicted is not None else None
            found.append(
                {"service": row["service"], "python": row["python"], "setting": setting, "before_ratio": base,
                 "measured": measured, "predicted": predicted, "inside": inside, "restored": tried["restored"],
                 "class": finding.class_}
            )  # fmt: skip
            said = f"predicted {predicted:+.1%}{'' if inside else ' OUTSIDE'}, " if predicted is not None else ""
            about = f"{row['service']:16} {row['python']:5} {setting:40} {base:6.1%}"
            interval = f"{measured['estimate']:+.1%} ({measured['low']:+.1%} to {measured['high']:+.1%})"
            back = "restored" if tried["restored"] else "NOT RESTORED"
            print(f"{about}: {said}measured {interval}, p {measured['p']:.3f}, settings {back}", flush=True)
    return found


def predicted_left(recording: Path, setting: str) -> float | None:
    """Return the share of the time in collections that a setting leaves, as a recording predicts it; None: unknown."""
    profile = open_profile(recording)
    case = gather(profile, profile.pids[0])
    thresholds = thresholds_of(setting)
    if case is None or case.model is None or not case.costs.automatic_ratio or (thresholds and "freeze" in setting):
        return None
    prediction = case.model.raised(thresholds[0]) if thresholds else case.model.frozen()
    return prediction.time_ratio / case.costs.automatic_ratio


def false_alarms(times: int, folder: Path) -> dict[str, Any]:
    """Return how often the present setting, tried against itself, was called different on the knee's service."""
    python = interpreter("3.11") or Path(sys.executable)
    clear = outcomes = 0
    with running("above_knee", python) as pid:
        threshold = 700
        for number in range(times):
            plan = Plan(asked={"thresholds": (str(threshold),)}, window_s=0.8, washout_s=0.1, seed=number)
            profile = experiment(KIND, pid, plan, folder / f"noise-{number}")
            [finding] = RULE.check(profile)
            tried = finding.evidence["experiment"]
            for effects in (tried["noise"], *(trial["effects"] for trial in tried["settings"].values())):
                for name in ("time_ratio", "lag_p99_ms"):
                    if name in effects:
                        outcomes += 1
                        effect = effects[name]
                        clear += effect["p"] <= 0.05 and (effect["low"] > 0 or effect["high"] < 0)
            assert finding.class_ in ("no_change", "not_identifiable"), finding.title
    print(f"present setting against itself: {clear} of {outcomes} differences called clear, no setting recommended")
    return {"experiments": times, "outcomes": outcomes, "clear": clear}


def main() -> int:
    """Run what was asked for; return 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--versions", default="3.11,3.13")
    parser.add_argument("--only", default="")
    parser.add_argument("--experiments", action="store_true")
    parser.add_argument("--window", type=float, default=3.0)
    parser.add_argument("--noise", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    truth = tomllib.loads((SERVICES / "truth.toml").read_text("utf-8"))
    chosen = {name: each for name, each in truth.items() if not arguments.only or name in arguments.only.split(",")}
    with tempfile.TemporaryDirectory(prefix="perfkit-bench-gc-") as folder:
        rows = classified(chosen, arguments.versions.split(","), arguments.seconds, Path(folder))
        results: dict[str, Any] = {"classes": rows}
        if arguments.experiments:
            results["experiments"] = proved(rows, arguments.window, Path(folder))
            judged = [each["inside"] for each in results["experiments"] if each["inside"] is not None]
            print(f"predictions inside the measured interval: {sum(judged)} of {len(judged)}")
        if arguments.noise:
            results["noise"] = false_alarms(arguments.noise, Path(folder))
    right = sum(row["right"] for row in rows)
    print(f"{right} of {len(rows)} right")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return int(right < len(rows))


if __name__ == "__main__":
    sys.exit(main())
