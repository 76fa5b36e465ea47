"""How right `memory_growth` is about programs whose truth is known: `python -m benchmarks.leaks`, `make bench-leaks`."""
