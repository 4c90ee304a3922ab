"""What the command line says: results on stdout, everything else on stderr, one line each.

A person sees plain lines and, on a terminal, a progress bar. A script sees one JSON document on stdout
when it asked for ``--json``, and never a progress bar or a color.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from shared_model.errors import EaselError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

__all__ = ["Advance", "Console", "format_bytes", "format_seconds"]

Advance = Callable[[float, str], None]


def format_bytes(count: int) -> str:
    """Return a byte count as people write it.

    Examples
    --------
    >>> format_bytes(617_000)
    '617 kB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{count} B"


def format_seconds(seconds: float) -> str:
    """Return a duration as people write it.

    Examples
    --------
    >>> format_seconds(75.2)
    '1 min 15 s'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(frozen=True)
class Console:
    """Where the lines go.

    Attributes
    ----------
    json
        Print facts as one JSON document on ``out``; human lines about results are dropped.
    out
        Results.
    err
        Notes, warnings, errors, progress.
    """

    json: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    _bars: list[RichConsole] = field(default_factory=list, init=False, repr=False)

    def say(self, text: str) -> None:
        """Print one result line for a person (nothing with ``--json``)."""
        if not self.json:
            self._print(_clean(text), self.out)

    def facts(self, value: object) -> None:
        """Print the JSON document (nothing without ``--json``)."""
        if self.json:
            print(json.dumps(value, indent=2, sort_keys=True), file=self.out, flush=True)

    def table(self, rows: Sequence[Sequence[str]], *, header: Sequence[str]) -> None:
        """Print rows in aligned columns for a person."""
        lines = [tuple(header), *(tuple(row) for row in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        for line in lines:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def note(self, text: str) -> None:
        """Print one line beside the results."""
        self._print(_clean(text), self.err)

    def warn(self, text: str, *, hint: str = "") -> None:
        """Print a warning and, where there is one, what to do about it."""
        self._line("warning", text, color=33)
        if hint:
            self._line("hint", hint, color=36)

    def error(self, error: EaselError, *, subject: str = "") -> None:
        """Print an error in one line and its hint in another."""
        self._line("error", f"{subject}: {error.message}" if subject else error.message, color=31)
        if error.hint:
            self._line("hint", error.hint, color=36)

    def ask(self, question: str) -> bool:
        """Ask yes or no; anything but yes, and any non-terminal, is no."""
        if not sys.stdin.isatty():
            return False
        print(f"{question} [y/N] ", end="", file=self.err, flush=True)
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @contextlib.contextmanager
    def progress(self, label: str) -> Iterator[Advance]:
        """Show a bar on a terminal and nothing elsewhere, or without a label.

        Yields
        ------
        Callable
            ``advance(fraction, text)``: the fraction done in [0, 1] and a word about where it stands.
        """
        if self.json or not label or not self.err.isatty():
            yield lambda fraction, text: None
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        terminal = RichConsole(file=self.err)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        ending = (TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
        with Progress(*columns, *ending, console=terminal, redirect_stdout=False, redirect_stderr=False) as bar:
            task = bar.add_task(label, total=1.0, text="")
            self._bars.append(terminal)
            try:
                yield lambda fraction, text: bar.update(task, completed=fraction, text=text)
            finally:
                self._bars.pop()

    def _line(self, kind: str, text: str, *, color: int) -> None:
        flat = _clean(" ".join(text.split()))
        colored = self.err.isatty() and "NO_COLOR" not in os.environ
        label = f"\033[1;{color}m{kind}:\033[0m" if colored else f"{kind}:"
        self._print(f"{label} {flat}", self.err)

    def _print(self, text: str, stream: TextIO) -> None:
        """Print a line; on a terminal that shows a bar, above the bar."""
        if self._bars and stream.isatty():
            self._bars[-1].out(text, highlight=False)
        else:
            print(text, file=stream, flush=True)


def _clean(text: str) -> str:
    """Replace what could steer a terminal or cannot be encoded: file names may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
