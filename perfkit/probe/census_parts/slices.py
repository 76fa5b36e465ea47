"""How long a step of the census may hold the GIL, and for how long it gives it back after that."""

from __future__ import annotations

SLICE_NS = 4_000_000
PAUSE_S = 0.006
