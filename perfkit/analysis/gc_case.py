"""The only place that puts together what is known of one process's collector, for the rule and for the views."""

from dataclasses import dataclass
from typing import Any

from perfkit.analysis.cyclic_garbage import Garbage, Kind, cyclic_garbage
from perfkit.analysis.gc_and_pools import Debt, debts
from perfkit.analysis.gc_costs import Costs, costs
from perfkit.analysis.gc_finalizers import Finalizers, finalizers
from perfkit.analysis.gc_model import Flavour, Model, Prediction, flavour, model
from perfkit.analysis.gc_overlap import Overlap, overlap
from perfkit.analysis.gc_trial import experiment
from perfkit.analysis.trial import Experiment
from perfkit.profile import Profile


@dataclass(frozen=True)
class Case:
    """All that is known of one process when its collector is judged."""

    pid: int
    python: str
    flavour: Flavour
    costs: Costs
    garbage: Garbage
    model: Model | None
    finalizers: Finalizers
    overlap: Overlap | None
    experiment: Experiment | None = None
    debts: tuple[Debt, ...] = ()

    @property
    def descriptor_limit(self) -> int:
        """Return how many descriptors the process may have; the usual 1024 where it is not known."""
        value = self.costs.settings.get("process.descriptor_limit")
        return value if isinstance(value, int) else 1024


def gather(profile: Profile, pid: int) -> Case | None:
    """Return what is known of one process; None when its collections were not recorded."""
    known = costs(profile, pid)
    if known is None:
        return None
    target = next((each for each in profile.manifest.targets if each["pid"] == pid), {})
    python = str(target.get("python", ""))
    garbage = cyclic_garbage(profile, known)
    return Case(
        pid=pid,
        python=python,
        flavour=flavour(python, free_threaded=bool(target.get("free_threaded"))),
        costs=known,
        garbage=garbage,
        model=model(profile, known, garbage),
        finalizers=finalizers(profile, known),
        overlap=overlap(profile, known),
        experiment=experiment(profile, known),
        debts=debts(profile, pid),
    )


def type_names(garbage: Garbage) -> str:
    """Return the names of the garbage's most telling types."""
    names = list(dict.fromkeys(kind.type.rpartition(".")[2] for kind in garbage.named))[:3]
    return ", ".join(names) or "unnamed objects"


def kind_json(kind: Kind) -> dict[str, Any]:
    """Return one kind of garbage as JSON values."""
    return {
        "type": kind.type,
        "made_in": kind.site.function if kind.site else None,
        "file": kind.site.file if kind.site else None,
        "line": kind.site.line if kind.site else None,
        "called_from": f"{kind.caller.function} ({kind.caller.file}:{kind.caller.line})" if kind.caller else None,
        "objects": int(kind.objects),
        "size_bytes": int(kind.size_bytes),
        "descriptors": int(kind.descriptors),
    }


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON values."""
    return {
        "setting": prediction.setting,
        "time_ratio": prediction.time_ratio,
        "full_per_s": prediction.full_per_s,
        "full_pause_ms": prediction.full_pause_ms,
        "held_bytes": prediction.held_bytes,
        "held_descriptors": prediction.held_descriptors,
    }


def summary(case: Case) -> dict[str, Any]:
    """Return the numbers behind a finding."""
    costs, found, met = case.costs, case.model, case.overlap
    numbers: dict[str, Any] = {
        "python": case.python,
        "collector": str(case.flavour),
        "thresholds": list(costs.thresholds),
        "stopped_ratio": costs.stopped_ratio,
        "automatic_ratio": costs.automatic_ratio,
        "manual_ratio": costs.manual_ratio,
        "census_ratio": costs.census_ratio,
        "cpu_ratio": costs.cpu_ratio,
        "long_ratio": costs.long_ratio,
        "worst_second_ratio": costs.worst_second_ratio,
        "worst_ten_seconds_ratio": costs.worst_ten_seconds_ratio,
        "generations": [
            {
                "generation": each.generation,
                "manual": each.manual,
                "collections": each.collections,
                "time_ratio": each.time_ratio,
                "p50_ms": each.p50_ms,
                "p99_ms": each.p99_ms,
                "max_ms": each.max_ms,
                "collected": each.collected,
            }
            for each in costs.generations
        ],
        "garbage_objects_per_s": case.garbage.objects_per_s,
    }
    if found is not None:
        numbers["model"] = {
            "counted_per_s": found.counted_per_s,
            "garbage_ratio": found.garbage_ratio,
            "live_per_s": found.live_per_s,
            "passing_ratio": found.passing_ratio,
            "working_set_objects": found.working_set_objects,
            "heap_objects": found.heap_objects,
            "ns_per_object": found.ns_per_object,
        }
    if case.debts:
        numbers["left_to_the_collector"] = [
            {"pool": each.pool, "per_s": each.freed_per_s, "now": each.waiting(each.threshold), "room": each.room}
            for each in case.debts
        ]
    if met is not None:
        numbers[met.of] = {
            "overlapped_ratio": met.overlapped_ratio,
            "p99_ms": met.p99_ms,
            "p99_clear_ms": met.p99_clear_ms,
            "p99_without_ms": met.p99_without_ms,
        }
    return numbers
