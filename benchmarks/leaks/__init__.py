"""How right `memory_growth` is about programs whose truth is known: `make bench-leaks`."""
