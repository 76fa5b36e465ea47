"""Parts of the recorder `perfkit.probe.object_graph`, sent to the target as source like it."""
