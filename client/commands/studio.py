"""``easel studio``: the page in the browser."""

from __future__ import annotations

import argparse

from client.console import Console
from shared_model.errors import MissingError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--port", type=int, metavar="N", help="port on this computer (default 8700, or a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address, open nothing")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    parser.add_argument(
        "--space", type=float, default=2.0, metavar="GB", help="disk space for photos and paintings (default 2)"
    )
    parser.add_argument("--json", action="store_true", help="print the address as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until it is stopped; returns the exit code."""
    from client.atelier import open_atelier
    from shared_model.errors import InputError

    if not 0.05 <= arguments.space <= 10_000:
        raise InputError(f"{arguments.space:g} GB is not enough or too much", hint="use --space 0.05 or more")
    try:
        from client.studio.gate import Gate
        from client.studio.service import bind, open_browser, serve
    except ImportError as error:
        raise MissingError(
            f"the studio needs {error.name}, which is not installed",
            hint="install it with: pip install 'easel[studio]'",
        ) from error
    console = Console(json=arguments.json)
    listener = bind(arguments.port)
    gate = Gate(listener.getsockname()[1])
    atelier = open_atelier(device=arguments.device, cap_bytes=round(arguments.space * 1e9))
    console.facts({"address": gate.link(), "port": gate.port})
    console.say(f"studio: {gate.link()}")
    console.note("only this computer can open it, and only with this address; stop with Ctrl-C")
    if not arguments.no_browser and not open_browser(gate):
        console.note("no browser found: open the address yourself")
    serve(atelier, listener, gate=gate)
    console.note("the studio is closed")
    return 0
