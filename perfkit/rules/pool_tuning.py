"""The rule `pool_tuning`: was another size or lifetime better when it was tried on the live pool?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfkit.analysis.pool_trial import OUTCOMES, Tried, pool_experiment
from perfkit.analysis.trial import Trial, experiment_json
from perfkit.findings import Finding, Verdict
from perfkit.gc_findings import change_text
from perfkit.pool_findings import pool_finding
from perfkit.profile import Profile
from perfkit.units import value_text


@dataclass(frozen=True)
class PoolTuning:
    """A connection pool has a setting that makes requests wait, or connections be made anew, and another does not.

    Why it matters: a pool that is too small makes requests queue for a connection, a limit on idle ones that is too
    low makes connections be opened for a request or two; a pool that is larger than needed costs its
    server memory and gains nothing. What a model foretells depends on how uses are spread; what was tried does not.
    Evidence: an experiment (`perfkit experiment pool`): windows with each setting in random order, the mean wait for
    a connection and the connections made per acquisition in each, compared over the blocks.
    Limits: speaks only of recordings of an experiment, and only of the settings, the load and the time that were
    tried. In windows shorter than a lifetime that lifetime cannot show. A change of less than `least_wait_ms` and
    `least_created_ratio`, or than `least_share`, is not worth a setting.
    Source: Hodges & Lehmann (1963), doi:10.1214/aoms/1177704172
    """

    least_wait_ms: float = 1.0
    """A request to a database on the same network takes about as long; less is not felt."""
    least_created_ratio: float = 0.05
    """One new connection in twenty uses: a handshake spread over more uses than that disappears in them."""

    least_share: float = 0.1
    """And a tenth of what it was: less is lost in the differences from one hour to the next."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process on whose pool an experiment was made."""
        found = [pool_experiment(profile, pid) for pid in profile.pids]
        return [self._of(profile, each) for each in found if each is not None]

    def _of(self, profile: Profile, tried: Tried) -> Finding:
        """Return what was measured of one pool."""
        name, found = tried.pool.name, tried.experiment
        evidence = {"before": tried.before, "experiment": experiment_json(found)}
        if found.ended_early is not None:
            return pool_finding(
                "pool_tuning", tried.pool, profile, f"The experiment with {name} ended early: {found.ended_early}",
                "Find out why, then try again.", verdict=Verdict.UNDECIDED, evidence=evidence,
                needs=("an experiment that runs to its end",),
            )  # fmt: skip
        base = found.trials[0].baseline if found.trials else {}
        worth = {
            outcome: max(least, self.least_share * base.get(outcome, 0.0))
            for outcome, least in (("wait_ms", self.least_wait_ms), ("created_ratio", self.least_created_ratio))
        }
        for outcome, least in worth.items():
            if (best := found.best_by(outcome, least)) is not None:
                return self._better(profile, tried, best, outcome, least, evidence)
        could = [
            each.setting
            for each in found.trials
            for outcome, least in worth.items()
            if outcome not in each.effects or (each.effects[outcome].low <= -least and not found.harms(each))
        ]
        if could or not found.trials:
            return pool_finding(
                "pool_tuning", tried.pool, profile, f"The experiment could not tell the settings of {name} apart",
                "Try longer windows, more blocks, or a steadier load.", verdict=Verdict.UNDECIDED, evidence=evidence,
                needs=("more or longer windows, with enough acquisitions in each",),
            )  # fmt: skip
        harm = "; ".join(f"{each.setting} is worse" for each in found.trials if found.harms(each))
        return pool_finding(
            "pool_tuning",
            tried.pool,
            profile,
            f"Tried on the live process, no other setting of {name} saved {worth['wait_ms']:.2g} ms of waiting "
            f"or {worth['created_ratio']:.2g} connections per acquisition{f' ({harm})' if harm else ''}",
            "Nothing to do.",
            verdict=Verdict.PASS,
            confidence=0.95,
            evidence=evidence,
        )

    def _better(
        self, profile: Profile, tried: Tried, best: Trial, outcome: str, least: float, evidence: Mapping[str, Any]
    ) -> Finding:
        """Return that a setting was better."""
        about = OUTCOMES[outcome]
        base, effect = best.baseline.get(outcome, 0.0), best.effects[outcome]
        unit = "" if about.unit == "ratio" else about.unit
        latency = ""
        if (felt := best.effects.get("p99_ms")) is not None:
            latency = f", p99 of the latency by {change_text(felt, 'ms')}"
            latency += "" if felt.is_clear else ", which may be chance"
        kept, size = (tried.pool.settings.get(name) for name in ("max_idle", "max_size"))
        keeps_all = best.setting.startswith("max_size=") and kept is not None and size is not None and kept >= size
        kept_too = ", and max_idle as high," if keeps_all else ""
        return pool_finding(
            "pool_tuning",
            tried.pool,
            profile,
            f"Tried on the live process, {best.setting} changed the {about.title} of {tried.pool.name} "
            f"from {value_text(base, unit)} by {change_text(effect, unit)}{latency}",
            f"Set {best.setting}{kept_too} where the pool is made, if its server has room for as many connections from "
            "every process; then confirm it on a fresh process.",
            measured=base,
            limit=base + effect.estimate,
            unit=about.unit,
            confidence=0.95,
            evidence={**evidence, "setting": best.setting, "least": least},
        )


RULE = PoolTuning()
