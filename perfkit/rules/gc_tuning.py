"""The rule `gc_tuning`: does garbage collection cost the service anything, why, and what would be better."""

from dataclasses import dataclass

from perfkit.analysis import gc_advice
from perfkit.analysis.gc_case import Case, gather, prediction_json, type_names
from perfkit.analysis.gc_costs import Caller
from perfkit.analysis.gc_model import STEPS, Flavour, Prediction
from perfkit.analysis.trial import Experiment, Explained, experiment_json
from perfkit.findings import Finding, Verdict
from perfkit.gc_findings import WORTH_TUNING, change_text, gc_finding, not_identifiable, site_of_place
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, mean_count_text, percent_text, seconds_text, three_digits

_EXPLAINED: dict[Explained | None, str] = {
    Explained.LESS: ", less than the pauses that it saved would explain: collections are not what makes requests slow",
    Explained.MORE: ", more than the pauses that it saved would explain: something else changed, too",
}

_LEAST_LEFT = 0.01
"""No prediction says that more than 99 of 100 collections go: what makes the others is below the noise."""


@dataclass(frozen=True)
class _HeldBack:
    """What would wait for the collector, in words, and as a share of what there is room for."""

    text: str
    share: float


def _risk_of(held_back: list[_HeldBack]) -> str:
    """Return the warning that goes with a threshold."""
    return f"At a risk: {'; '.join(each.text for each in held_back)}. " if held_back else ""


@dataclass(frozen=True)
class GcTuning:
    """Garbage collection takes time that requests need, or keeps memory that nobody uses.

    Why it matters: a collection stops every thread of the service. Most services lose less than one
    per cent of their time to it and need no change; some lose half of it, and a line of
    configuration, or a cycle that is broken up, gives it back.
    Evidence: every collection with its trigger and length, from `gc.callbacks`; the share of time
    they take and the latency of requests that met one; who called gc.collect(); what ran inside
    of pauses (CPU samples); which objects are garbage and what they hold; and a model of what
    brings collections about, which predicts what another setting would do.
    Limits: the allocation tracer makes freeing slower, so shares are upper bounds while it is attached. A full
    collection that the census asks for takes the place of one of the program's. The model is
    no proof: `perfkit experiment gc` is. Settings are recommended for the generational collector only
    (Python 3.7 to 3.13, and 3.14.5 to 3.15). Needs `min_covered_s`.
    Source: https://docs.python.org/3/library/gc.html
    """

    min_covered_s: float = 8.0
    """In less, a full collection that comes every few seconds may be missed, or be all there is."""
    min_coverage: float = 0.9
    """Of the interpreter's own count of collections; below, what was lost may be what mattered."""
    max_ratio: float = WORTH_TUNING
    """Share of time in collections from which on it is worth tuning: the usual limit for pauses of other runtimes
    (SAP and Oracle say 5 %); what is below disappears in the noise of most measurements of a service."""
    max_cpu_ratio: float = 0.1
    """Share of the process's CPU time: a service that is idle half of the time, or has to wait for a CPU, loses less of
    the clock, but pays as much. Below 10 %, says the practice of .NET, look elsewhere."""
    min_ratio: float = 0.01
    """Share of time below which the share of CPU time says nothing: a process that does next to nothing."""
    max_long_ratio: float = 0.01
    """Share of time in long pauses: one request in a hundred that arrives at random meets one, so p99 does."""
    min_long_pauses: int = 3
    """One or two in a recording may be the last of a start-up; they say nothing of a rate."""
    max_manual_ratio: float = 0.01
    """Collections by hand need less to be worth a word: leaving them out costs nothing."""
    min_gain_ms: float = 20.0
    """What p99 must lose when pauses are taken off before requests count as harmed: a long pause's worth."""
    steady_garbage: float = 0.5
    """From this share of garbage on among what the collector counts, it runs because of cycles."""
    min_own_per_s: float = 100.0
    """Objects of the program's own classes in cycles per second before it is worth breaking them up at no harm yet."""
    most_held_bytes: float = 64 * 2**20
    """What garbage may hold at the popular threshold before raising it is refused: the size of a small worker."""
    most_of_room: float = 0.5
    """Of the connections or descriptors that are left, what may wait for the collector before raising the threshold is
    refused: the other half is for the burst that comes sooner or later, as in the guard of an experiment."""
    risky_share: float = 0.05
    """Of them, from which on a higher threshold is recommended with a warning only."""
    min_looks: int = 3
    """Looks at the garbage before anything is said of what it consists of."""
    min_seen_objects: float = 30
    """Objects of garbage that were seen, likewise."""
    high_threshold: int = 20_000
    """From here on somebody has raised the first threshold on purpose."""
    popular_threshold: int = 50_000
    """The setting that is most often copied from blogs."""
    min_held_bytes_per_s: float = 256 * 1024
    """Slower than that, memory held by garbage does not pile up within minutes."""
    min_heap_objects: float = 100_000
    """Smaller heaps are walked in some milliseconds: freezing them is not worth its risk."""
    least_saved: float = 0.5
    """A setting that is predicted to save less than half of the cost is not worth being proposed."""
    min_saved_ratio: float = 0.01
    """Of the time; a setting that was tried and saves less is not worth its risks."""
    max_debt_bytes_per_s: float = 65_536 / 60
    """Growth that counts: the same as in `memory_growth`."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process."""
        return [self._of(profile, pid) for pid in profile.pids] or [
            not_identifiable(None, "No process was recorded", ("a recording of a process",))
        ]

    def _of(self, profile: Profile, pid: int) -> Finding:
        """Return the finding of one process."""
        case = gather(profile, pid)
        if case is None:
            return not_identifiable(pid, "Collections were not recorded", ("a recording with `--collect gc`",))
        return self.judge(case)

    def judge(self, case: Case) -> Finding:
        """Return the finding of one process."""
        if lacking := self._lacking(case):
            title = "Not enough was recorded to judge the garbage collector"
            return gc_finding(
                case,
                Verdict.UNDECIDED,
                "not_identifiable",
                title,
                f"Record again: it takes {lacking[0]}.",
                needs=tuple(lacking),
            )
        if case.experiment is not None:
            return self._tried(case, case.experiment)
        return (
            self._off(case)
            or self._slow_finalizer(case)
            or self._manual(case)
            or self._cycles(case)
            or self._setting(case)
            or self._nothing(case)
        )

    def is_harmed(self, case: Case) -> bool:
        """Whether automatic collections cost enough to be worth a change."""
        gain = case.overlap.gain_ms if case.overlap and case.overlap.of == "requests" else None
        return (
            case.costs.automatic_ratio >= self.max_ratio
            or ((case.costs.cpu_ratio or 0.0) >= self.max_cpu_ratio and case.costs.automatic_ratio >= self.min_ratio)
            or (case.costs.long_ratio >= self.max_long_ratio and case.costs.long_pauses >= self.min_long_pauses)
            or (gain is not None and gain >= self.min_gain_ms and case.costs.manual_ratio < self.max_manual_ratio)
        )

    def _lacking(self, case: Case) -> list[str]:
        """Return what is missing for any verdict."""
        lacking = []
        if case.costs.covered_s < self.min_covered_s:
            lacking.append(
                f"at least {self.min_covered_s:.0f} s of collections (there are {three_digits(case.costs.covered_s)} s)"
            )
        if case.costs.coverage is not None and case.costs.coverage < self.min_coverage:
            lacking.append(f"a recording that sees the collections (it saw {percent_text(case.costs.coverage)})")
        return lacking

    def _tried(self, case: Case, tried: Experiment) -> Finding:
        """Return the finding of an experiment: what was measured counts, not what was predicted."""
        best = tried.best
        numbers = {"experiment": experiment_json(tried)}
        if tried.ended_early is not None:
            return gc_finding(
                case, Verdict.UNDECIDED, "not_identifiable", f"The experiment ended early: {tried.ended_early}",
                "Find out why, then try again.", needs=("an experiment that runs to its end",), more=numbers,
            )  # fmt: skip
        saved = -best.effects["time_ratio"].estimate if best else 0.0
        if best is not None and saved >= self.min_saved_ratio:
            freezes = best.setting == "gc.freeze()"
            faster = best.effects.get("p99_ms")
            latency = ""
            if faster is not None:
                latency = f", p99 by {change_text(faster, 'ms')}"
                latency += _EXPLAINED.get(best.explained, "")
            code = best.setting.replace("; ", "\n")
            advice = gc_advice.freeze() if freezes else gc_advice.raised(code)
            return gc_finding(
                case,
                Verdict.FAIL,
                "freeze" if freezes else "raise_threshold",
                f"Tried on the live process, {best.setting} changed the time in collections by "
                f"{change_text(best.effects['time_ratio'], 'ratio')}{latency}",
                f"Set it where the application starts: {best.setting}. Before that, confirm it on fresh processes: "
                "`perfkit experiment gc ... --confirm 'COMMAND'`.",
                confidence=0.95,
                advice=advice,
                more=numbers,
            )
        could = min(
            (trial.effects["time_ratio"].low for trial in tried.trials if "time_ratio" in trial.effects), default=-1.0
        )
        if could > -self.min_saved_ratio or best is not None:
            return gc_finding(
                case,
                Verdict.PASS,
                "no_change",
                f"Tried on the live process, no setting saves {percent_text(self.min_saved_ratio)} of the time or more",
                "Nothing to do.",
                confidence=0.95,
                more=numbers,
            )
        return gc_finding(
            case, Verdict.UNDECIDED, "not_identifiable", "The experiment could not tell the settings apart from noise",
            "Try longer windows, more blocks, or a steadier load.", needs=("more or longer windows",), more=numbers,
        )  # fmt: skip

    def _off(self, case: Case) -> Finding | None:
        """Return the finding of a process whose collector is switched off."""
        if not case.costs.is_off or any(caller.collected for caller in case.costs.callers):
            return None  # who collects by hand has no need of the collector
        rate = _made_per_s(case) * case.garbage.bytes_per_object
        if not case.garbage.looks:
            return gc_finding(
                case, Verdict.UNDECIDED, "not_identifiable", "The collector is off; nobody looked for garbage",
                "Find out whether cycles are made.", needs=("looks at the garbage (`--collect cyclic_garbage`)",),
            )  # fmt: skip
        if case.garbage.share < 0.05 or rate < self.max_debt_bytes_per_s:
            return gc_finding(
                case, Verdict.PASS, "no_change", "The collector is off, and next to no garbage needs it",
                "Watch the memory: new code may make cycles.", confidence=0.8,
            )  # fmt: skip
        return gc_finding(
            case,
            Verdict.FAIL,
            "gc_debt",
            f"The collector is off, and garbage piles up: about {bytes_text(rate)}/s of {type_names(case.garbage)}",
            "Switch the collector on again, or collect at moments of your choice; better, break the cycles up.",
            confidence=0.9,
            garbage=True,
            measured=rate,
            limit=self.max_debt_bytes_per_s,
            unit="bytes/s",
        )

    def _slow_finalizer(self, case: Case) -> Finding | None:
        """Return the finding when the pauses are somebody's code."""
        found = case.finalizers
        harmed = case.costs.stopped_ratio >= self.max_manual_ratio
        if not (found.dominate and harmed):
            return None
        site = site_of_place(found.site)
        where = f" in {site}" if site else ""
        share = found.share if found.share is not None else found.unexplained
        return gc_finding(
            case,
            Verdict.FAIL,
            "slow_finalizer",
            f"{percent_text(share)} of the pauses is not collecting but finalizers{where}: "
            f"{percent_text(case.costs.stopped_ratio)} of the time",
            "Do the work of the finalizer when the object is closed, in a `with` block; a finalizer should only warn. "
            "Thresholds would only move it.",
            site=site,
            confidence=0.9 if site else 0.7,
            garbage=True,
        )

    def _manual(self, case: Case) -> Finding | None:
        """Return the finding when the program collects by hand."""
        least = self.max_ratio if case.costs.is_off else self.max_manual_ratio
        if case.costs.manual_ratio < least or case.costs.manual_ratio < 0.5 * case.costs.automatic_ratio:
            return None
        caller: Caller = case.costs.callers[0]
        freed, per_s = caller.collected / caller.collections, caller.collections / case.costs.covered_s
        return gc_finding(
            case,
            Verdict.FAIL,
            "manual_collect",
            f"{site_of_place(caller.site)} calls gc.collect() {three_digits(per_s)} times a second: "
            f"{percent_text(case.costs.manual_ratio)} of the time, {seconds_text(caller.p50_ms / 1e3)} each, "
            f"freeing {mean_count_text(freed, 'object')} at a time",
            "Leave it out: the interpreter collects by itself when there is something to collect. "
            "Where memory must come down at a certain point, collect there, not per request.",
            site=site_of_place(caller.site),
            confidence=0.95,
            measured=case.costs.manual_ratio,
            limit=self.max_manual_ratio,
        )

    def _cycles(self, case: Case) -> Finding | None:
        """Return the finding when garbage in cycles is what the collector works for, or what must not wait."""
        garbage, found = case.garbage, case.model
        if found is None or garbage.looks < self.min_looks or garbage.seen_objects < self.min_seen_objects:
            return None
        held, descriptors = (f(self.popular_threshold) for f in (found.held_bytes, found.held_descriptors))
        payload = held >= self.most_held_bytes and garbage.bytes_per_s >= self.min_held_bytes_per_s
        sockets = descriptors >= 0.5 * min(case.descriptor_limit, 1024) and garbage.descriptors_per_s >= 1.0
        named = garbage.named
        site = site_of_place(next((kind.site for kind in named if kind.site), None))
        now = found.threshold
        if now >= self.high_threshold and (payload or sockets):
            return gc_finding(
                case,
                Verdict.FAIL,
                "gc_debt",
                f"The threshold of {now:,} lets garbage of {type_names(garbage)} pile up: it holds up to "
                f"{bytes_text(found.held_bytes(now))} and {three_digits(found.held_descriptors(now))} open descriptors",
                "Lower the threshold again, or break the cycle up.",
                site=site,
                type_=named[0].type if named else None,
                confidence=0.85,
                garbage=True,
                measured=garbage.bytes_per_s,
                limit=self.min_held_bytes_per_s,
                unit="bytes/s",
            )
        if payload or sockets:
            holds = [f"{bytes_text(held)} of memory"] * payload + [
                f"{count_text(descriptors)} open descriptors"
            ] * sockets
            return gc_finding(
                case,
                Verdict.FAIL,
                "refuse_raise",
                f"Do not raise the threshold: garbage of {type_names(garbage)} would hold {' and '.join(holds)} "
                f"at {self.popular_threshold:,} (now, at {now:,}: {bytes_text(found.held_bytes(now))}"
                + (f", {three_digits(found.held_descriptors(now))} descriptors)" if sockets else ")"),
                "Break the cycle up: drop one of its references when the work is done (close(), a weak reference), "
                "so that memory and connections are freed at once. Then measure again.",
                site=site,
                type_=named[0].type if named else None,
                confidence=0.9,
                garbage=True,
                measured=garbage.bytes_per_s,
                limit=self.min_held_bytes_per_s,
                unit="bytes/s",
            )
        own = sum(kind.objects for kind in named if kind.is_own) / max(garbage.seen_objects, 1.0)
        worth_it = self.is_harmed(case) or (
            garbage.own_share >= 0.5 and own * garbage.objects_per_s >= self.min_own_per_s
        )
        if not worth_it or found.garbage_ratio < self.steady_garbage:
            return None
        return gc_finding(
            case,
            Verdict.FAIL,
            "fix_cycles",
            f"{percent_text(found.garbage_ratio)} of what makes the collector run is garbage in cycles of "
            f"{type_names(garbage)}: {count_text(garbage.objects_per_s)} objects, "
            f"{bytes_text(garbage.bytes_per_s)} per second",
            "Break the cycle up: let one side hold a weak reference, or drop it when the work is done. "
            "Then nothing waits for the collector; a threshold would only let more of it pile up.",
            site=site,
            type_=named[0].type if named else None,
            confidence=0.85,
            garbage=True,
            measured=found.garbage_ratio,
            limit=self.steady_garbage,
        )

    def _setting(self, case: Case) -> Finding | None:
        """Return the finding when collections cost too much and a setting may help."""
        if not self.is_harmed(case):
            return None
        cost = f"{percent_text(case.costs.automatic_ratio)} of the time goes into collections"
        prove = f"Prove it on the live process: perfkit experiment gc --pid {case.pid}."
        found = case.model
        if case.flavour is not Flavour.GENERATIONAL or found is None:
            known = f"Python {case.python} has the {case.flavour} collector, for which no setting is recommended"
            return gc_finding(
                case, Verdict.UNDECIDED, "not_identifiable", f"{cost}; {known}", prove,
                needs=("an experiment on the process itself",),
            )  # fmt: skip
        full = case.costs.cost(2)
        full_ratio = full.time_ratio if full else 0.0
        static = (found.live_per_s or 0.0) < 0.01 * (found.heap_objects or 0.0)
        stays = (
            full is not None
            and full.collections >= self.min_long_pauses
            and full_ratio >= 0.6 * case.costs.automatic_ratio
            and (found.heap_objects or 0.0) >= self.min_heap_objects
            and full.collected < 0.01 * full.collections * (found.heap_objects or 0.0)
            and static
        )
        if full is not None and stays:
            prediction, or_raise, more = found.frozen(), "", {}
            if found.knee is not None and found.raised(found.knee).time_ratio < prediction.time_ratio:
                other = found.raised(found.knee)
                more["alternative"] = prediction_json(other)
                or_raise = (
                    f"Or try {other.setting}, which makes them rare instead of short "
                    f"({percent_text(other.time_ratio)}, but garbage waits longer). "
                )
            if self._is_worth_it(case, prediction):
                return gc_finding(
                    case,
                    Verdict.FAIL,
                    "freeze",
                    f"{cost}, {percent_text(full_ratio / case.costs.automatic_ratio)} of it into full passes over "
                    f"{count_text(found.heap_objects)} objects that stay: {seconds_text(full.p50_ms / 1e3)} each, "
                    f"freeing {mean_count_text(full.yield_objects, 'object')} at a time",
                    f"Freeze what is alive after the warm-up: gc.collect(); gc.freeze(). Predicted: "
                    f"{percent_text(prediction.time_ratio)} of the time. {or_raise}"
                    f"{self._risk_of_freezing(case)}{prove}",
                    confidence=0.8,
                    advice=gc_advice.freeze(),
                    prediction=prediction,
                    more=more,
                )
        knee = found.knee
        if knee is not None:
            prediction = found.raised(knee)
            if self._is_worth_it(case, prediction):
                return self._raise(
                    case,
                    knee,
                    prediction,
                    f"{cost} for objects that live for a moment: {count_text(found.working_set_objects)} at a time, "
                    f"the threshold is {found.threshold:,}",
                    f"Raise the first threshold above them: {prediction.setting}. ",
                    prove,
                    confidence=0.8,
                )
        if full is not None and stays:
            higher = [step for step in STEPS if step > found.threshold]
            step = next((each for each in higher if found.raised(each).time_ratio < self.max_ratio), None)
            if step is not None and self._is_worth_it(case, rarer := found.raised(step)):
                return self._raise(
                    case,
                    step,
                    rarer,
                    f"{cost}, {percent_text(full_ratio / case.costs.automatic_ratio)} of it into full passes over "
                    f"{count_text(found.heap_objects)} objects that stay: {seconds_text(full.p50_ms / 1e3)} each, "
                    f"{three_digits(full.per_s)} times a second",
                    f"Make them rarer: {rarer.setting}. Freezing would make them short, but as much oftener. ",
                    prove,
                    confidence=0.7,
                )
        return gc_finding(
            case,
            Verdict.UNDECIDED,
            "not_identifiable",
            f"{cost}; the recording does not tell which setting would be better",
            prove,
            needs=found.unknown or ("an experiment on the process itself",),
        )

    def _raise(
        self,
        case: Case,
        threshold: int,
        prediction: Prediction,
        title: str,
        hint: str,
        prove: str,
        *,
        confidence: float,
    ) -> Finding:
        """Return the recommendation of a higher threshold, or that it must not be raised."""
        held_back = self._held_back(case, threshold)
        if refused := self._refused(case, threshold, held_back):
            return refused
        return gc_finding(
            case,
            Verdict.FAIL,
            "raise_threshold",
            title,
            f"{hint}{_risk_of(held_back)}{prove}",
            confidence=confidence,
            advice=gc_advice.raised(prediction.setting),
            prediction=prediction,
            more={"risks": [each.text for each in held_back]} if held_back else None,
        )

    def _held_back(self, case: Case, threshold: int) -> list[_HeldBack]:
        """Return which connections and descriptors would wait for the collector at a threshold, if they are many."""
        left = max(case.model.left(threshold), _LEAST_LEFT) if case.model else 1.0
        waiting = {each.pool: each.waiting(threshold, left) for each in case.debts}
        found = [
            _HeldBack(
                f"{count_text(waiting[each.pool])} connections of {each.pool} would wait for the collector at "
                f"{threshold:,} (now, at {each.threshold:,}: {three_digits(each.waiting(each.threshold))}"
                + (f"; {count_text(each.room)} are not in use otherwise)" if each.room is not None else ")"),
                waiting[each.pool] / max(each.room, 1.0) if each.room is not None else 0.0,
            )
            for each in case.debts
            if each.room is None or waiting[each.pool] >= self.risky_share * each.room
        ]
        descriptors = case.model.held_descriptors(threshold) if case.model else 0.0
        if descriptors >= max(self.risky_share * case.descriptor_limit, 1.0):
            found.append(
                _HeldBack(
                    f"{count_text(descriptors)} open descriptors would wait for the collector at {threshold:,} "
                    f"(the process may have {case.descriptor_limit:,})",
                    descriptors / case.descriptor_limit,
                )
            )
        return found

    def _refused(self, case: Case, threshold: int, held_back: list[_HeldBack]) -> Finding | None:
        """Return that a threshold must not be raised because of what would wait for the collector; None: it may."""
        worst = max(held_back, key=lambda each: each.share, default=None)
        if worst is None or worst.share < self.most_of_room:
            return None
        return gc_finding(
            case,
            Verdict.FAIL,
            "refuse_raise",
            f"Do not raise the threshold, although collections cost {percent_text(case.costs.automatic_ratio)} of the "
            f"time: {worst.text}",
            "Give the connections back where they are used (a context manager, or `finally`), so that no collection is "
            "needed for it; then measure again.",
            confidence=0.85,
            garbage=True,
            measured=worst.share,
            limit=self.most_of_room,
            more={"refused": f"gc.set_threshold({threshold})", "risks": [each.text for each in held_back]},
        )

    def _risk_of_freezing(self, case: Case) -> str:
        """Return a warning where connections depend on being collected."""
        if not case.debts:
            return ""
        names = ", ".join(each.pool for each in case.debts)
        return f"What is frozen is never collected: connections of {names} that are left to it then stay out for good. "

    def _is_worth_it(self, case: Case, prediction: Prediction) -> bool:
        """Whether a setting is predicted to save enough."""
        return prediction.time_ratio <= (1 - self.least_saved) * case.costs.automatic_ratio

    def _nothing(self, case: Case) -> Finding:
        """Return that nothing needs to change."""
        costs, met = case.costs, case.overlap
        longest = max((each.max_ms for each in costs.generations), default=0.0)
        requests = ""
        if met is not None and met.of == "requests":
            requests = f"; {percent_text(met.overlapped_ratio)} of the requests met one"
        return gc_finding(
            case,
            Verdict.PASS,
            "no_change",
            f"No change needed: collections cost {percent_text(costs.ratio)} of the time, "
            f"{seconds_text(longest / 1e3)} at most{requests}",
            "Nothing to do.",
            confidence=0.95,
        )


def _made_per_s(case: Case) -> float:
    """Return how many objects become garbage per second in a process that does not collect them."""
    if case.model is not None and case.model.live_per_s is not None and case.garbage.objects_per_s == 0:
        return case.model.live_per_s * case.garbage.share
    return max(case.garbage.objects_per_s, 0.0)


RULE = GcTuning()
