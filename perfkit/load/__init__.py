"""Open-loop HTTP load: requests leave when the schedule says so, however slow the answers are.

The generator is a process of its own (`python -m perfkit.load`, `perfkit.load.run.run_load`), written
with httptools, uvloop and the standard library alone, so that it starts quickly, costs little and is
never slowed down by what it measures. `perfkit.load.results` reads what it wrote.
"""
