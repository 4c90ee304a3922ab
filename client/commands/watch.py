"""``easel watch``: a folder whose pictures are painted as they arrive."""

from __future__ import annotations

import argparse
from pathlib import Path

from client.commands import stylize
from client.console import Console
from shared_model.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", metavar="FOLDER", help="where pictures arrive")
    parser.add_argument("-o", "--out", metavar="DIR", help="where paintings go (default: beside each picture)")
    stylize.add_painting_arguments(parser)
    parser.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="how often to look (default 1; a slow drive: 10)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Watch until Ctrl-C; returns 0, or the exit code of the first picture that failed."""
    from client.watch import Watch

    folder = Path(arguments.folder).expanduser()
    out = None if arguments.out is None else Path(arguments.out).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", hint="name the folder where pictures arrive")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder", hint="give -o a folder")
    if not 0.1 <= arguments.every <= 3600:
        raise InputError("--every must be between 0.1 and 3600 seconds", hint="leave it out to look every second")
    console = Console()
    painter = stylize.make_painter(arguments, console)
    watch = Watch(folder=folder, out=out, painter=painter, console=console)
    console.note(f"watching {folder}; Ctrl-C stops")
    try:
        watch.run(every_s=arguments.every)
    except KeyboardInterrupt:
        console.note(f"stopped: {watch.painted} painted")
    return watch.exit_code
