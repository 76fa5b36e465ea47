"""The only place that turns options into a run: handshake, signals, files, summary."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfkit.errors import CannotRecord, UsageError
from perfkit.load.generator import Generator
from perfkit.load.options import LoadOptions
from perfkit.load.rows import Request, RowWriter
from perfkit.load.summary import Effort, Tally

SETTINGS = "load.json"
SUMMARY = "summary.json"
_FLUSH_S = 0.25
_DRAIN_S = 1.0
_OTHER_DESCRIPTORS = 64
_NICE = -10


class TargetUnreachable(CannotRecord):
    """Nothing accepts connections where the load should go."""

    hint = "Start the service first, and check the address."

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot connect to {host}:{port}: {reason}")
        self.host = host
        self.port = port


def run_load(options: LoadOptions, folder: Path | None = None, say: Callable[[str], None] | None = None) -> int:
    """Run the load to its end and return 0; blocks.

    Says two lines of JSON on standard output: `{"event": "ready", ...}` once the target accepted
    a connection and the schedule begins, `{"event": "summary", ...}` at the end. SIGINT and SIGTERM
    end it early; it then still writes every row. Takes a higher priority where it is allowed to, so that
    a busy target does not make its load late; `nice` in the summary says so.

    Args:
        options: where, when and what.
        folder: where to write one row per request and the summary; None: nowhere.
        say: takes the lines instead of standard output.

    Raises:
        TargetUnreachable: the target does not accept a connection; nothing was sent.
        UsageError: this process may not open so many connections.
    """
    import uvloop

    _allow_connections(options.max_connections)
    with contextlib.suppress(OSError):  # allowed to few users; a punctual generator takes little, but at the right time
        os.nice(_NICE)
    tally = Tally()
    writer: RowWriter | None = None
    with contextlib.ExitStack() as stack:
        take: Callable[[Request], None] = tally.add
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SUMMARY).unlink(missing_ok=True)  # of an earlier run in the same folder
            writer = stack.enter_context(RowWriter(folder))
            take = _both(tally.add, writer.add)
        generator = Generator(options, take)

        def ready() -> int:
            began_ns = time.monotonic_ns()
            started = {"pid": os.getpid(), "monotonic_ns": began_ns, "schedule": str(options.schedule)}
            if folder is not None:
                text = json.dumps({**started, "options": json.loads(options.to_json())}, indent=2)
                (folder / SETTINGS).write_text(text + "\n", "utf-8")
            (say or _print)(json.dumps({"event": "ready", "target": options.authority, **started}))
            return began_ns

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            cpu_s = runner.run(_run(generator, options, writer, ready))
    effort = Effort(
        began_ns=generator.began_ns,
        horizon_ns=generator.horizon_ns,
        dispatched=generator.dispatched,
        unsent=generator.unsent,
        connections=generator.connections,
        most_in_flight=generator.most_in_flight,
        cpu_s=cpu_s,
    )
    summary = {**tally.summary(options, effort), "began_ns": generator.began_ns, "ended_ns": generator.ended_ns}
    summary["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
    if writer is not None and writer.problem:
        summary["note"] = "; ".join(filter(None, (summary["note"], f"rows could not be written: {writer.problem}")))
    if folder is not None:
        with contextlib.suppress(OSError):  # the disk is full: rows are missing too, and standard output still says it
            (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    (say or _print)(json.dumps({"event": "summary", **summary}))
    return 0


async def _run(generator: Generator, options: LoadOptions, writer: RowWriter | None, ready: Callable[[], int]) -> float:
    """Run the load inside an event loop; return the CPU seconds it took."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail)
    try:
        await generator.reach_target()
    except OSError as error:
        raise TargetUnreachable(options.host, options.port, error.strerror or str(error) or "no answer") from error
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, generator.stop)
    # The generator's own collections would show up as latency of the target; what is alive now stays.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    cpu_s = time.process_time()
    flusher = asyncio.create_task(_flush(writer)) if writer else None
    try:
        await generator.run(ready(), _DRAIN_S)
    finally:
        if flusher is not None:
            flusher.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return time.process_time() - cpu_s


async def _flush(writer: RowWriter) -> None:
    """Write the window out again and again."""
    while True:
        await asyncio.sleep(_FLUSH_S)
        writer.flush()


def _allow_connections(count: int) -> None:
    """Raise this process's limit of open descriptors as far as the connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UsageError(
            f"{count} connections need {needed} open descriptors; this process may have {hard}",
            hint=f"Use at most {hard - _OTHER_DESCRIPTORS} connections, or raise the limit (ulimit -Hn).",
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _both(first: Callable[[Request], None], second: Callable[[Request], None]) -> Callable[[Request], None]:
    """Return a function that calls two."""

    def call(request: Request) -> None:
        first(request)
        second(request)

    return call


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End the process on a defect of the generator: numbers of a half-broken one must not look good."""
    loop.default_exception_handler(context)
    os._exit(70)


def _print(line: str) -> None:
    """Write a line to standard output at once; nobody may be reading it any more."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
