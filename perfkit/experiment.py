"""`perfkit experiment`: try settings on a live process, guarded, and put everything back. Kinds: `experiments`."""

from contextlib import ExitStack
from pathlib import Path

from perfkit import experiments
from perfkit.attach.target import inspect
from perfkit.collectors import collectors
from perfkit.errors import UsageError
from perfkit.experiments import Kind, Plan
from perfkit.lab import load_on
from perfkit.plugins import discover
from perfkit.profile import Profile
from perfkit.recorder import Progress, Recorder, Settings, Silent, plan_for
from perfkit.recordings import default_output, writing
from perfkit.switching import planned_windows

WINDOW_S = 8.0
"""What of each window counts where neither the plan nor the kind says so."""


def kinds() -> dict[str, Kind]:
    """Return the kinds of experiments by name."""
    return discover(experiments, "KIND", Kind)  # type: ignore[type-abstract]


def experiment(
    kind: Kind, pid: int, plan: Plan, output: Path | None = None, progress: Progress | None = None
) -> Profile:
    """Return the recording of an experiment; the process has its settings back, whatever happened.

    Raises:
        NothingToTry: there is nothing to win, and no setting was named.
        CannotRecord: the process cannot be entered, or what is to be changed is not one to be tuned.
        UsageError: there is no load at that rate.
        LabFailed: the load could not start.
    """
    progress = progress or Silent()
    target = inspect(pid)
    with ExitStack() as stack:
        writer = stack.enter_context(writing(output or default_output(f"experiment-{target.program}")))
        load = None
        if plan.load_url:
            if plan.load_per_s <= 0:
                raise UsageError("a load needs a rate above 0", hint="Give --rate 100.")
            load = stack.enter_context(load_on(plan.load_url, plan.load_per_s, writer.raw("load"), plan.load_options))
        options = {
            **collectors()[kind.collector].options,
            "window_s": WINDOW_S if plan.window_s is None else plan.window_s,
            "washout_s": plan.washout_s,
            "blocks": plan.blocks,
            "noise_blocks": plan.blocks,
            "seed": plan.seed,
            "load_pid": load.pid if load else None,
            **kind.options(target, plan, progress),
        }
        windows = len(planned_windows(options))
        seconds = windows * (options["window_s"] + plan.washout_s + 0.5) + 2.0
        progress.say(
            f"trying {', '.join(options['arms'])} against the present setting: {windows} windows, {seconds:.0f} s"
        )
        settings = Settings(
            duration_s=seconds, collect=kind.collect, options={kind.collector: options, **kind.other_options()}
        )
        recorder = Recorder(writer, settings, progress)
        recorder.add(plan_for(target, settings))
        recorder.run()
        if load is not None:
            load.stop()
        return recorder.finish()
