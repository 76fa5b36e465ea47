"""Numbers and tables -> Altair charts and plain tables, one view per file.

Each view answers the question in its module's first line. A view never raises because a
table is empty: it returns one sentence that says what was not recorded.
"""

from perfkit.views.checkout_sites import checkout_sites
from perfkit.views.connection_lives import connection_lives
from perfkit.views.connection_timeline import connection_timeline
from perfkit.views.connections_by_peer import connections_by_peer
from perfkit.views.cpu_flame_graph import cpu_flame_graph
from perfkit.views.cpu_over_time import cpu_over_time
from perfkit.views.dominator_tree import dominator_tree
from perfkit.views.environment import environment
from perfkit.views.flame_graph import flame_graph
from perfkit.views.garbage_types import garbage_types
from perfkit.views.gc_and_pools import gc_and_pools
from perfkit.views.gc_callers import gc_callers
from perfkit.views.gc_causes import gc_causes
from perfkit.views.gc_cost import gc_cost
from perfkit.views.gc_experiment import gc_experiment
from perfkit.views.gc_generations import gc_generations
from perfkit.views.gc_pauses_over_time import gc_pauses_over_time
from perfkit.views.gc_predictions import gc_predictions
from perfkit.views.gc_recommendation import gc_recommendation
from perfkit.views.growing_containers import growing_containers
from perfkit.views.growing_paths import growing_paths
from perfkit.views.growing_types import growing_types
from perfkit.views.heap_over_time import heap_over_time
from perfkit.views.key_numbers import key_numbers
from perfkit.views.latency_over_time import latency_over_time
from perfkit.views.leak_unit import leak_unit
from perfkit.views.memory_ledger import memory_ledger
from perfkit.views.memory_over_time import memory_over_time
from perfkit.views.open_questions import next_steps, open_questions
from perfkit.views.pool_experiment import pool_experiment
from perfkit.views.pool_headroom import pool_headroom
from perfkit.views.pool_lifetimes import pool_lifetimes
from perfkit.views.pool_utilisation import pool_utilisation
from perfkit.views.pools_found import pools_found
from perfkit.views.recording_quality import recording_quality
from perfkit.views.retaining_path import retaining_path
from perfkit.views.slots_and_uses import slots_and_uses
from perfkit.views.sockets_over_time import sockets_over_time
from perfkit.views.survivor_flame_graph import survivor_flame_graph
from perfkit.views.survivors_by_stack import survivors_by_stack
from perfkit.views.throughput_over_time import throughput_over_time
from perfkit.views.verdict import verdict

__all__ = [
    "checkout_sites",
    "connection_lives",
    "connection_timeline",
    "connections_by_peer",
    "cpu_flame_graph",
    "cpu_over_time",
    "dominator_tree",
    "environment",
    "flame_graph",
    "garbage_types",
    "gc_and_pools",
    "gc_callers",
    "gc_causes",
    "gc_cost",
    "gc_experiment",
    "gc_generations",
    "gc_pauses_over_time",
    "gc_predictions",
    "gc_recommendation",
    "growing_containers",
    "growing_paths",
    "growing_types",
    "heap_over_time",
    "key_numbers",
    "latency_over_time",
    "leak_unit",
    "memory_ledger",
    "memory_over_time",
    "next_steps",
    "open_questions",
    "pool_experiment",
    "pool_headroom",
    "pool_lifetimes",
    "pool_utilisation",
    "pools_found",
    "recording_quality",
    "retaining_path",
    "slots_and_uses",
    "sockets_over_time",
    "survivor_flame_graph",
    "survivors_by_stack",
    "throughput_over_time",
    "verdict",
]
