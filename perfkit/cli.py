"""The command line: one function per verb, which parses, calls, prints and picks the exit code.

Exit codes: 0 fine, 1 findings, 2 usage, 3 could not record. Imports stay inside the
functions, so that `perfkit --help` answers at once.
"""

import json
import sys
from collections.abc import Callable
from inspect import getdoc
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perfkit import __version__
from perfkit.errors import CannotRecord, PerfkitError, UsageError

if TYPE_CHECKING:
    from perfkit.compare import Comparison
    from perfkit.experiments import Kind
    from perfkit.findings import Finding

FINDINGS, USAGE, COULD_NOT_RECORD = 1, 2, 3

F = TypeVar("F", bound=Callable[..., Any])

_PID = click.IntRange(min=1)
"""In a container the service itself is often process 1."""


class _Commands(click.Group):
    """Keeps the verbs in the order in which they are used, and turns perfkit's errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = {"json": "--json" in args}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            hint = error.ctx and f"Try `{error.ctx.command_path} --help`."
            self._tell(ctx, "UsageError", error.format_message(), hint or "")
            raise
        except PerfkitError as error:
            self._tell(ctx, type(error).__name__, str(error), error.hint)
            click.echo(f"perfkit: {error}", err=True)
            if error.hint:
                click.echo(f"  {error.hint}", err=True)
            ctx.exit(COULD_NOT_RECORD if isinstance(error, CannotRecord) else USAGE)

    @staticmethod
    def _tell(ctx: click.Context, kind: str, message: str, hint: str) -> None:
        """Print an error for programs, where they asked for JSON."""
        if ctx.obj["json"]:
            click.echo(json.dumps({"error": {"type": kind, "message": message, "hint": hint}}))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="perfkit")
def main() -> None:
    """Performance analysis of live Python services: attach by PID, record, read a verdict.

    \b
    perfkit doctor --pid 4242                  what works here and for this process
    perfkit record --pid 4242 --duration 60s   record it, without a restart
    perfkit check profiles/...                 findings; exit code 1 when a rule fails
    perfkit report profiles/...                one HTML file to share
    perfkit compare profiles/a profiles/b      what changed; exit code 1 when something got worse

    \b
    Exit codes: 0 fine, 1 findings, 2 wrong use, 3 could not record.
    """


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_DIR = click.argument("profile_dir", metavar="DIR", type=click.Path(path_type=Path))


@main.command(short_help="Record a process: by its id, by launching a command, or a scenario.")
@click.option("--pid", type=_PID, metavar="PID", help="Attach to this process.")
@click.option("--scenario", metavar="NAME", help="Start the reference proxy in this scenario and attach to it.")
@click.option(
    "-d",
    "--duration",
    metavar="TIME",
    help="How long, such as 90, 20s, 5m; 0: until it ends or Ctrl-C.  [default: 60s]",
)
@click.option(
    "--collect",
    metavar="WORDS",
    help="Only these of cpu,heap,objects,gc,pools,process,sockets, or single collectors by name, as `perfkit doctor "
    "--pid` lists them.  [default: all that work]",
)
@click.option("--children", is_flag=True, help="Record its Python descendants too (gunicorn or uvicorn workers).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the profile; it must be new or empty.  [default: profiles/PROGRAM-DATE-TIME]",
)
@click.option(
    "--budget",
    metavar="PERCENT",
    help="Share of the target's time that recording may cost it, such as 2%.  [default: what it takes]",
)
@click.option("--fetch", is_flag=True, help="Download what the target's interpreter lacks (memray for its version).")
@click.option(
    "--set",
    "settings_",
    metavar="COLLECTOR.OPTION=VALUE",
    multiple=True,
    help="Change an option of a collector, such as pyspy_stacks.rate_hz=50; an unknown OPTION lists the known ones.",
)
@click.option("--keep-raw", is_flag=True, help="Keep what the tools wrote, beside the tables.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@_JSON
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record(
    pid: int | None,
    scenario: str | None,
    duration: str | None,
    collect: str | None,
    children: bool,
    output: Path | None,
    budget: str | None,
    fetch: bool,
    settings_: tuple[str, ...],
    keep_raw: bool,
    quiet: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Record a process into a profile: by --pid, by --scenario, or by launching COMMAND after `--`.

    \b
    perfkit record --pid 4242 --duration 30s -o profiles/slow-tuesday
    perfkit record --scenario heap_leak_sessions
    perfkit record -- python app.py
    """
    from perfkit import recordings
    from perfkit.terminal import TerminalProgress

    if sum((pid is not None, scenario is not None, bool(command))) != 1:
        raise UsageError("say what to record", hint="Give one of --pid PID, --scenario NAME, or `-- COMMAND`.")
    profile = recordings.record(
        command or pid,
        duration,
        scenario=scenario,
        output=output,
        collect=[word.strip() for word in collect.split(",")] if collect else None,
        children=children,
        keep_raw=keep_raw,
        budget=recordings.parse_share(budget) if budget else None,
        fetch=fetch,
        options=_options(settings_),
        quiet=quiet,
    )
    progress = TerminalProgress(quiet=quiet)
    manifest = profile.manifest
    if as_json:
        click.echo(
            json.dumps({"profile": str(profile.path), "complete": manifest.complete, "missing": manifest.missing})
        )
        return
    for sentence in manifest.missing:
        progress.say(f"missing: {sentence}")
    click.echo(f"{profile.path}: {profile.duration_s:.1f} s, {sum(manifest.rows.values()):,} rows")
    progress.say(f"next: perfkit check {profile.path}; perfkit report {profile.path}")


@main.command()
@_DIR
@click.option("--rule", metavar="NAME", help="Only this rule; an unknown NAME lists the known ones.")
@_JSON
@click.pass_context
def check(ctx: click.Context, profile_dir: Path, rule: str | None, as_json: bool) -> None:
    """Ask every rule of a profile; exit code 1 when one fails.

    FAIL needs a change, UNDECIDED says what more data would decide it, PASS needs nothing.
    """
    from perfkit.checks import check as ask
    from perfkit.decode import open_profile
    from perfkit.findings import Verdict, to_json_form

    profile = open_profile(profile_dir)
    findings = ask(profile, rule)
    if as_json:
        click.echo(json.dumps(to_json_form(profile.name, findings), indent=2))
    else:
        _show(findings)
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        ctx.exit(FINDINGS)


class _NotebookOption(click.Option):
    """Names the notebooks that there are when help is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from perfkit.report import notebook_names

        self.help = f"Which analysis: {', '.join(notebook_names())}, or the path of a notebook of your own."
        return super().get_help_record(ctx)


@main.command(short_help="Write one HTML file that answers a question, to share.")
@_DIR
@click.option("--notebook", metavar="NAME", default="leak_root_cause", show_default=True, cls=_NotebookOption)
@click.option(
    "-p",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="Parameter of the notebook; an unknown NAME lists the known ones.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where to write.  [default: report.html in DIR, report-NAME.html for another notebook]",
)
@click.option(
    "--static", is_flag=True, help="Pictures for charts, for places that forbid scripts; needs perfkit[static]."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@_JSON
@click.pass_context
def report(
    ctx: click.Context,
    profile_dir: Path,
    notebook: str,
    parameters: tuple[str, ...],
    output: Path | None,
    static: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a notebook over a profile and write one HTML file that opens anywhere, without a network.

    Exit code 1 when the notebook raised: the report is written all the same and says so.
    """
    from perfkit.decode import open_profile
    from perfkit.report import NotebookFailed, render
    from perfkit.terminal import TerminalProgress

    progress = TerminalProgress(quiet=quiet)
    profile = open_profile(profile_dir)
    failed: NotebookFailed | None = None
    with progress.stage(f"running {notebook}", None):
        try:
            file = render(profile.path, notebook, _pairs(parameters), output, static=static)
        except NotebookFailed as error:
            failed, file = error, error.report
    click.echo(json.dumps({"report": str(file), "error": failed and failed.reason}) if as_json else str(file))
    if failed is not None:
        click.echo(f"perfkit: {failed}", err=True)
        ctx.exit(FINDINGS)


class _Experiments(click.Group):
    """Has a command for each kind of experiment; they are looked for when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from perfkit.experiment import kinds

        return list(kinds())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from perfkit.experiment import kinds

        kind = kinds().get(cmd_name)
        return None if kind is None else _experiment(cmd_name, kind)


@main.group(cls=_Experiments, short_help="Try settings on a live process; all is put back.")
def experiment() -> None:
    """Try settings on a live process, in windows of random order; everything is put back."""


def _experiment(name: str, kind: "Kind") -> click.Command:
    """Return the command that makes one kind of experiment."""

    def run(
        pid: int,
        load_url: str | None,
        rate: float,
        window: str | None,
        washout: str,
        blocks: int,
        seed: int,
        output: Path | None,
        quiet: bool,
        as_json: bool,
        **asked: Any,
    ) -> None:
        from perfkit.checks import check as ask
        from perfkit.experiment import experiment as make
        from perfkit.experiments import Plan
        from perfkit.findings import to_json_form
        from perfkit.recordings import parse_duration
        from perfkit.terminal import TerminalProgress

        plan = Plan(
            asked=asked,
            window_s=parse_duration(window) if window else None,
            washout_s=parse_duration(washout),
            blocks=blocks,
            seed=seed,
            load_url=load_url,
            load_per_s=rate,
        )
        progress = TerminalProgress(quiet=quiet)
        profile = make(kind, pid, plan, output, progress)
        findings = ask(profile, kind.rule)
        if not as_json:
            _show(findings)  # at once: what comes may fail
        followed = kind.afterwards(profile, plan, progress)
        if as_json:
            form: dict[str, Any] = to_json_form(str(profile.path), findings)
            if followed is not None:
                form[followed.name] = followed.form
            click.echo(json.dumps(form, indent=2))
            return
        if followed is not None:
            click.echo(followed.text)
        progress.say(f"next: perfkit report {profile.path} --notebook {kind.notebook}")

    own = [
        click.Option(
            [f"--{flag.name}"],
            help=flag.help,
            **(
                {"metavar": flag.metavar, "default": flag.default, "show_default": True}
                if flag.default is not None
                else {"multiple": True, "metavar": flag.metavar}
                if flag.metavar
                else {"is_flag": True}
            ),
        )
        for flag in kind.flags
    ]
    command = click.Command(
        name, callback=run, help=getdoc(type(kind)), params=[_EXPERIMENT_PID, *own, *_experiment_options()]
    )
    return _JSON(command)


_EXPERIMENT_PID = click.Option(
    ["--pid"], type=_PID, metavar="PID", required=True, help="The process to try settings on."
)


def _experiment_options() -> list[click.Parameter]:
    """Return the options that every kind of experiment has."""
    return [
        click.Option(["--load", "load_url"], metavar="URL", help="Send requests there, and compare their latency."),
        click.Option(["--rate"], default=100.0, show_default=True, help="Requests per second, with --load."),
        click.Option(
            ["--window"], metavar="TIME", help="What counts of each window.  [default: 8s, or longer if needed]"
        ),
        click.Option(
            ["--washout"], default="1s", show_default=True, metavar="TIME", help="What is left out before it."
        ),
        click.Option(
            ["--blocks"], default=6, show_default=True, type=click.IntRange(min=2), help="How often each is tried."
        ),
        click.Option(["--seed"], default=1, show_default=True, help="Of the order of the windows."),
        click.Option(["-o", "--output"], type=click.Path(path_type=Path), help="Folder of the profile."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show no progress."),
    ]


@main.command(short_help="Say what changed between two recordings.")
@click.argument("base_dir", metavar="BASE", type=click.Path(path_type=Path))
@click.argument("head_dir", metavar="HEAD", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Compare what is not comparable, and say why it is not.")
@_JSON
@click.pass_context
def compare(ctx: click.Context, base_dir: Path, head_dir: Path, force: bool, as_json: bool) -> None:
    """Say what changed from BASE to HEAD; exit code 1 when something got worse, 2 when they are not comparable.

    \b
    perfkit compare profiles/before profiles/after-the-fix
    """
    from perfkit.compare import compare as compare_profiles
    from perfkit.compare import to_json_form
    from perfkit.decode import open_profile

    comparison = compare_profiles(open_profile(base_dir), open_profile(head_dir), force=force)
    if as_json:
        click.echo(json.dumps(to_json_form(comparison), indent=2))
    else:
        _show_comparison(comparison)
    if comparison.is_regression:
        ctx.exit(FINDINGS)


@main.command(short_help="Say what works here and for a process, with remedies.")
@click.option("--pid", type=_PID, metavar="PID", help="Also say what works for this process.")
@click.option("--fix", is_flag=True, help="Fetch what recording this process lacks (memray for its interpreter).")
@_JSON
@click.pass_context
def doctor(ctx: click.Context, pid: int | None, fix: bool, as_json: bool) -> None:
    """Say what works here and for a process, and the exact remedy for what does not."""
    from dataclasses import asdict

    from perfkit.doctor import WORKS, diagnose

    if fix:
        from perfkit.attach.memray_builds import fetch
        from perfkit.attach.target import inspect

        if pid is None:
            raise UsageError("--fix needs to know for which process", hint="Give --pid PID.")
        fetch(inspect(pid))

    checks = diagnose(pid)
    if as_json:
        click.echo(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2))
    else:
        from perfkit.terminal import table

        marks = {True: "ok", False: "NO", None: "?"}
        working = [c.name for c in checks if c.what == WORKS]
        rows = [[marks[c.ok], c.name, c.what, c.remedy] for c in checks if c.what != WORKS]
        if working:
            rows.append(["ok", "collectors", f"{len(working)} work on this process: {', '.join(working)}", ""])
        table(["", "what", "found", "remedy"], rows)
    if any(c.ok is False for c in checks):
        ctx.exit(FINDINGS)


@main.command()
def scenarios() -> None:
    """List the scenarios of the reference proxy."""
    from perfkit.scenarios import load as load_scenario
    from perfkit.scenarios import names
    from perfkit.terminal import table

    table(["name", "what it shows"], [[name, load_scenario(name).doc] for name in names()])


def _part(module: str, name: str, doc: str) -> None:
    """Add a verb that hands its arguments to a part of the lab, which has its own --help."""

    @main.command(name, context_settings={"ignore_unknown_options": True, "help_option_names": []}, help=doc)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        from importlib import import_module

        sys.exit(import_module(module).main(list(arguments)))


_part("perfkit.proxy.__main__", "proxy", "Run the reference reverse proxy (see `perfkit proxy --help`).")
_part("perfkit.proxy.upstream", "upstream", "Run an HTTP upstream with settable latency, size and errors.")
_part("perfkit.load.__main__", "load", "Send requests at a fixed rate and record each one's latency.")


def _show(findings: "list[Finding]") -> None:
    """Print findings for people: those that ask for something in full, the rest by name.

    Where none asks for anything, what the rules say is the answer: each sentence once, with the rules that say it.
    """
    for finding in findings:
        if finding.verdict == "pass":
            continue
        click.secho(f"{str(finding.verdict).upper():9} ", bold=True, nl=False)
        click.echo(f"{finding.rule}: {finding.title}")
        if finding.site:
            click.echo(f"          {finding.site_label:13} {finding.site}")
        if finding.insertion:
            click.echo(f"          inserted in   {finding.insertion}")
        if finding.retainer:
            click.echo(f"          held by       {' > '.join(finding.retainer)}")
        if finding.hint:
            click.echo(f"          next          {finding.hint}")
        for need in (each for each in finding.needs if each not in finding.hint):
            click.echo(f"          to be surer   {need}")
    said: dict[str, list[str]] = {}
    passed = [finding for finding in findings if finding.verdict == "pass"]
    for finding in passed:
        said.setdefault(finding.title if len(passed) == len(findings) else "", []).append(finding.rule)
    for title, every in said.items():
        rules = list(dict.fromkeys(every))
        names = ", ".join(rules)
        line = f"{names}: {title}" if len(rules) == 1 and title else f"{title}: {names}" if title else names
        click.secho("PASS      ", bold=True, nl=False)
        click.echo(fill(line, 118, initial_indent=" " * 10, subsequent_indent=" " * 10).lstrip())


def _show_comparison(comparison: "Comparison") -> None:
    """Print a comparison for people: the verdict, how the recordings differ, growth, numbers, heaps."""
    from perfkit.terminal import table
    from perfkit.views.comparison_text import difference_line, growth_title, heap_lines, remarks, table_of

    click.secho(comparison.title, bold=True)
    for each in comparison.differences:
        click.echo(difference_line(each))
    for growth in comparison.growth:
        if growth_title(growth) not in comparison.title:
            click.echo(f"{str(growth.outcome).replace('_', ' '):14} {growth_title(growth)}")
    click.echo()
    table(["", "what", "BASE", "HEAD", "change (95 %)"], table_of(comparison.rows))
    for lines in (remarks(comparison.rows), heap_lines(comparison.heap)):
        if lines:
            click.echo("\n" + "\n".join(lines))


def _pairs(texts: tuple[str, ...], form: str = "-p warmup_s=10") -> dict[str, str]:
    """Return NAME=VALUE texts as a mapping; `form` is an example of one."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} is not NAME=VALUE", hint=f"Write it as {form}.")
        pairs[name] = value
    return pairs


def _options(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return COLLECTOR.OPTION=VALUE texts as options by collector; values are JSON or plain text."""
    from perfkit.collectors import collectors
    from perfkit.errors import UnknownName

    options: dict[str, dict[str, Any]] = {}
    for name, text in _pairs(texts, "--set pyspy_stacks.rate_hz=50").items():
        collector, dot, option = name.partition(".")
        known = collectors()
        if not dot or collector not in known:
            raise UnknownName("collector", collector, sorted(known))
        if option not in known[collector].options:
            raise UnknownName(f"option of {collector}", option, sorted(known[collector].options))
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        options.setdefault(collector, {})[option] = value
    return options
