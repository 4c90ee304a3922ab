"""``easel serve``: paint for the other programs of this computer."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import time
from typing import TYPE_CHECKING

from client.console import Console
from client.startup import import_torch
from shared_model.errors import CompatibilityError, InputError, MissingError

if TYPE_CHECKING:
    from client.daemon.place import Place, Record
    from client.daemon.server import Daemon

__all__ = ["add_arguments", "run"]

_STOP_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--tcp",
        metavar="HOST:PORT",
        help="listen on loopback, with a token, instead of a Unix socket; port 0 takes a free one",
    )
    action.add_argument("--status", action="store_true", help="say whether a daemon is running, and stop")
    action.add_argument("--stop", action="store_true", help="end the daemon that is running")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="how to compute (auto: fp32)"
    )
    parser.add_argument("--queue", type=int, default=64, metavar="N", help="pictures under way at once (default 64)")
    parser.add_argument(
        "--max-megapixels", type=float, default=50.0, metavar="MP", help="of a photo and of a painting (default 50)"
    )
    parser.add_argument("--json", action="store_true", help="with --status: print as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; returns the exit code."""
    from client.daemon.place import Place

    console = Console(json=arguments.json)
    place = Place.default()
    if arguments.status:
        return _status(place, console)
    if arguments.stop:
        return _stop(place, console)
    return _serve(arguments, place, console)


def _serve(arguments: argparse.Namespace, place: Place, console: Console) -> int:
    from client.daemon.place import Record, loopback
    from easel import __version__

    address = loopback(arguments.tcp) if arguments.tcp else place.address
    token = secrets.token_urlsafe(32) if arguments.tcp else ""
    with place.claim():
        daemon = _daemon(arguments, token)

        def ready(bound: str) -> None:
            place.announce(Record(bound, os.getpid(), __version__, token))
            where = f"{bound}, with the token in {place.folder / 'daemon.json'}" if token else str(place.socket)
            console.note(f"easel {__version__} paints for programs of this user at {where}")
            console.note("stop it with Ctrl-C, or: easel serve --stop")

        asyncio.run(_until_told(daemon, address, ready))
    console.note("stopped")
    return 0


def _daemon(arguments: argparse.Namespace, token: str) -> Daemon:
    if not 1 <= arguments.queue <= 1000:
        raise InputError(f"a queue of {arguments.queue} makes no sense", hint="use 1 to 1000")
    if not 0.001 <= arguments.max_megapixels <= 100:
        raise InputError(f"{arguments.max_megapixels:g} megapixels make no sense", hint="use 0.001 to 100, such as 50")
    import_torch()
    try:
        from client.daemon.server import Daemon
        from client.daemon.uploads import Settings
    except ImportError as error:
        raise MissingError(f"easel serve needs {error.name}", hint="pip install 'easel[daemon]'") from error
    except RuntimeError as error:  # what generated code says of an older grpcio or protobuf
        raise CompatibilityError("grpcio or protobuf is too old", hint="pip install -U 'easel[daemon]'") from error
    from client.job_queue import Limits
    from client.store import Home
    from client.warm_painter import WarmPainter
    from shared_model.weights import default_backbone

    atelier = WarmPainter(
        Home.default(),
        backbone=default_backbone(),
        device=arguments.device,
        precision=arguments.precision,
        max_pixels=round(arguments.max_megapixels * 1e6),
    )
    limits = Limits(calls=arguments.queue, calls_per_client=max(1, arguments.queue // 4))
    return Daemon(atelier, settings=Settings(painting=limits), token=token)


async def _until_told(daemon: Daemon, address: str, ready: object) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await daemon.run(address, stop=stop, ready=ready)  # type: ignore[arg-type]


def _status(place: Place, console: Console) -> int:
    record = place.running()
    if record is None:
        console.facts({"running": False})
        console.say("no daemon is running; start it with: easel serve")
        return 3
    from client.studio_client import Client

    with Client.connect(place=place, name="status") as client:
        told = client.version()
    console.facts({"running": True, "pid": record.pid, "address": record.address, **told})
    console.say(f"easel {told['easel']} is running: process {record.pid}, {record.address}, on {told['device']}")
    console.say(f"{told['calls']} of at most {told['max_calls']} pictures under way")
    return 0


def _stop(place: Place, console: Console) -> int:
    record = place.running()
    if record is None:
        raise MissingError("no daemon is running", hint="easel serve starts one")
    os.kill(record.pid, signal.SIGTERM)
    until = time.monotonic() + _STOP_S
    while _same(place, record):
        if time.monotonic() > until:
            raise InputError(f"process {record.pid} has not stopped", hint=f"kill {record.pid}")
        time.sleep(0.05)
    console.facts({"stopped": record.pid})
    console.say(f"stopped process {record.pid}")
    return 0


def _same(place: Place, record: Record) -> bool:
    now = place.running()
    return now is not None and now.pid == record.pid
