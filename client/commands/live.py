"""``easel live``: what a camera sees, painted as it happens."""

from __future__ import annotations

import argparse

from client.commands import stylize
from client.console import Console
from shared_model.errors import InputError, MissingError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source",
        nargs="?",
        default="camera",
        metavar="SOURCE",
        help="camera, camera:1 (the second one), screen, or a video file that is played again and again "
        "(default camera)",
    )
    stylize.add_painting_arguments(parser)
    parser.add_argument(
        "--fps",
        type=float,
        default=8.0,
        metavar="N",
        help="frames a second to aim at: the picture becomes as large as that allows, up to --size (default 8)",
    )
    parser.add_argument("--port", type=int, metavar="N", help="port on this computer (default 8700, or a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address, open nothing")
    parser.add_argument("--json", action="store_true", help="print the address as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the painting on a page until Ctrl-C; returns the exit code."""
    from client.live_show import Pace, Show
    from client.live_view import Newest, opened

    if arguments.explain:
        raise InputError("a live picture cannot be explained", hint="leave out --explain")
    pace = Pace(fps=arguments.fps, largest_px=arguments.size or 512)
    try:
        from client.studio.gate import Gate
        from client.studio.live_page import live_app
        from client.studio.service import bind, open_browser, serve_app
    except ImportError as error:
        raise MissingError(
            f"the page needs {error.name}, which is not installed", hint="install it with: pip install 'easel[studio]'"
        ) from error
    console = Console(json=arguments.json)
    with opened(arguments.source) as frames:
        painter = stylize.make_painter(arguments, console)
        listener = bind(arguments.port)
        gate = Gate(listener.getsockname()[1])
        show = Show(Newest(frames), painter=painter, pace=pace)
        console.facts({"address": gate.link(), "port": gate.port})
        console.say(f"live: {gate.link()}")
        console.note("only this computer can open it, nothing is recorded; stop with Ctrl-C")
        if not arguments.no_browser and not open_browser(gate):
            console.note("no browser found: open the address yourself")
        try:
            serve_app(live_app(show, gate=gate), listener)
        finally:
            show.close()
    console.note("stopped")
    return 0
