"""The only place that tells a pause that walks objects from one that runs somebody's code: finalizers and the like."""

from dataclasses import dataclass

import numpy as np

from perfkit.analysis.gc_costs import Costs, site_of
from perfkit.analysis.survival import Place
from perfkit.profile import Profile

_WALK_NS_PER_OBJECT = 600.0
"""More than examining an object costs: 50-180 ns here, up to 550 ns on heaps that are cold in the cache."""
_FREE_NS_PER_OBJECT = 5_000.0
"""More than freeing an object costs, with an allocation tracer attached, too."""
_SHORTEST_MS = 1.0

_SAMPLES = """
with own as (
    select start_ns, start_ns + pause_ns as end_ns, os_tid from gc_pauses
    where pid = $pid and pause_ns >= $shortest_ns
),
inside as (
    select c.stack_id, c.weight_ns from cpu_samples c join threads t using (thread_id)
    join own o on c.tick_ns between o.start_ns and o.end_ns and t.os_tid = o.os_tid where t.pid = $pid
),
named as (
    select i.stack_id, sum(i.weight_ns)::double as weight_ns, count(*) as samples from inside i group by 1
)
select n.weight_ns, n.samples, f.function, f.file, f.line
from named n left join (
    select b.stack_id, arg_max(b.frame_id, b.pos) as frame_id from stack_frames b join frames f using (frame_id)
    where f.function = '__del__' or f.function like '%.__del__' group by 1
) d using (stack_id) left join frames f on f.frame_id = d.frame_id
"""


@dataclass(frozen=True, slots=True)
class Finalizers:
    """How much of the pauses other code than the collector's took.

    `share` is the share of the CPU samples taken inside of pauses that have a finalizer on their
    stack; None when there were too few. `unexplained` is the share of the CPU time of young collections
    that neither the number of objects to look at nor of those freed explains. `site` is the finalizer seen most.
    """

    samples: int
    share: float | None
    unexplained: float
    site: Place | None

    @property
    def dominate(self) -> bool:
        """Whether most of the pauses goes into finalizers, as far as can be told."""
        if self.share is not None:
            return self.share >= 0.5
        return self.unexplained >= 0.8


def finalizers(profile: Profile, costs: Costs) -> Finalizers:
    """Return what ran inside of the pauses."""
    rows = profile.sql(_SAMPLES, pid=costs.pid, shortest_ns=int(_SHORTEST_MS * 1e6))
    samples, total = int(rows["samples"].sum()), float(rows["weight_ns"].sum())
    below = rows[rows["function"].notna()]
    site = None
    if not below.empty:
        seen = below.groupby(["function", "file", "line"], dropna=False)["weight_ns"].sum().sort_values()
        site = site_of(dict(zip(("function", "file", "line"), seen.index[-1], strict=True)))
    share = float(below["weight_ns"].sum()) / total if samples >= 5 and total else None
    return Finalizers(samples, share, _unexplained(costs), site)


def _unexplained(costs: Costs) -> float:
    """Return the share of the time of young collections that is longer than their objects can take."""
    own = costs.pauses.chosen(~costs.pauses.ours & (costs.pauses.generation == 0) & ~costs.pauses.manual)
    own = own.chosen(own.collected > 0)
    if not len(own) or not costs.thresholds:
        return 0.0
    allowed = costs.thresholds[0] * _WALK_NS_PER_OBJECT + own.collected * _FREE_NS_PER_OBJECT
    excess = np.maximum(own.cpu_ns - allowed, 0)
    # A signal's handler lengthens some pauses, a finalizer most of them.
    usual = np.minimum(excess, 3 * np.median(excess))
    return float(usual.sum() / (usual.sum() + np.minimum(own.cpu_ns, allowed).sum()))
