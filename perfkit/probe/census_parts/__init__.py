"""Parts of the recorder `perfkit.probe.census`, sent to the target in one source with it."""
