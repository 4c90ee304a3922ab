"""What the parsers of all commands have in common: two-line usage errors, and a lazy ``--version``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO, cast

__all__ = ["Parser", "Version"]

_LACKING = "the following arguments are required: "


class Version(argparse.Action):
    """Print the version; imports the package only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and stop."""
        from easel import __version__

        print(f"easel {__version__}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """Usage errors in the same two lines as every other error."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where to find help; exit code 2."""
        hint = f"{self.prog} --help"
        greedy = [a.option_strings[-1] for a in self._actions if a.option_strings and a.nargs == "+"]
        if message.startswith(_LACKING) and greedy:
            hint = f"{message.removeprefix(_LACKING)} goes before {' and '.join(greedy)}; see {hint}"
        self._print_message(f"error: {message}\nhint: {hint}\n", cast("TextIO", sys.stderr))
        raise SystemExit(2)
