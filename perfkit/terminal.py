"""The only place that draws on the terminal: progress and notes on stderr, results on stdout.

Standard output carries data only, so that it can be piped; bars are drawn on a terminal
only, elsewhere there is a plain line every ten seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0


class TerminalProgress:
    """Progress of a recording for a person to look at."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Show one line; square brackets are shown as they are."""
        self.console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str, total_s: float | None) -> Iterator[Callable[[float], None]]:
        """Show a bar, or lines where there is no terminal, while the stage is open."""
        if not self.console.is_terminal:
            yield self._lines(name, total_s)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True) as bar:
            task = bar.add_task(name, total=total_s)
            yield lambda done_s: bar.update(task, completed=done_s)

    def _lines(self, name: str, total_s: float | None) -> Callable[[float], None]:
        """Return a callable that shows a line now and then."""
        self.say(f"{name} for {total_s:.0f} s" if total_s else name)
        shown = time.monotonic()

        def done(done_s: float) -> None:
            nonlocal shown
            if time.monotonic() - shown >= _LINE_EVERY_S:
                shown = time.monotonic()
                self.say(f"{name}: {done_s:.0f} s" + (f" of {total_s:.0f} s" if total_s else ""))

        return done


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Show a table on stdout; cells are plain text."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(shown)
