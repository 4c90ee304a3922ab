"""Entry points of the three commands: find our packages first, then hand over to their ``cli``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import easel

__all__ = ["device", "isolate", "server", "simulation"]


def isolate(path: Sequence[str], *, root: Path, cwd: Path, prefixes: Sequence[str] = ()) -> list[str]:
    """Return ``path`` with ``root`` first and without the current folder.

    A foreign package called ``client`` or ``server``, in the folder where a command is run or in
    site-packages, must never be taken for ours.

    Parameters
    ----------
    path
        A module search path such as ``sys.path``; ``""`` stands for the current folder.
    root
        The folder that holds our packages.
    cwd
        The current folder.
    prefixes
        Where Python itself lives: a current folder inside one of these stays.
    """
    here = cwd.resolve()
    ours = any(here.is_relative_to(prefix) for prefix in prefixes)
    dropped = {root} if ours else {root, here}
    return [str(root), *(entry for entry in path if entry and Path(entry).resolve() not in dropped)]


def _hand_over(package: str) -> NoReturn:
    """Run ``<package>.cli.main`` on the command line's arguments and exit with its code."""
    prefixes = (sys.prefix, sys.base_prefix)
    sys.path[:] = isolate(sys.path, root=easel.root(), cwd=Path.cwd(), prefixes=prefixes)
    main = importlib.import_module(f"{package}.cli").main
    sys.exit(main(sys.argv[1:]))


def device() -> NoReturn:
    """Run ``easel``, the command of a device and its owner."""
    _hand_over("client")


def server() -> NoReturn:
    """Run ``easel-server``, the command of whoever runs the rounds."""
    _hand_over("server")


def simulation() -> NoReturn:
    """Run ``easel-sim``, the command of simulated fleets and the demo."""
    _hand_over("simulations")
