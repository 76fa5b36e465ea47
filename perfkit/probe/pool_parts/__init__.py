"""Parts of the recorder `perfkit.probe.pools`, sent to the target as source like it."""
