"""The commands ``easel-server release list | show | create | promote | rollback | serve``.

Modules that need torch or gRPC are imported by the command that uses them, so ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_model.errors import InputError

if TYPE_CHECKING:
    from server.registry import Releases

__all__ = ["declare"]

PORT = 39320  # as in server.deployment, which needs more than --help may load


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``release`` to the parser of ``easel-server``."""
    release = commands.add_parser(
        "release",
        help="make, promote, roll back and serve releases of the backbone",
        description="Signed releases of the backbone. Only what passes the gate is promoted; nothing forces it.",
        epilog="example: easel-server release create --folder fleet --run-dir fleet/run",
    )
    actions = release.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list releases, and which one is in use")
    show = actions.add_parser("show", help="show one release")
    create = actions.add_parser("create", help="try a backbone and make a release of it; it is not in use yet")
    origin = create.add_mutually_exclusive_group(required=True)
    origin.add_argument("--run-dir", type=Path, help="the newest state of this run")
    origin.add_argument("--public", type=Path, metavar="FILE", help="weights that only public pictures trained")
    promote = actions.add_parser("promote", help="let devices use a release, if it passes the gate")
    rollback = actions.add_parser("rollback", help="lead devices back to an older release, by a signed order")
    for parser in (show, promote, rollback):
        parser.add_argument("version", type=int, metavar="VERSION")
    for parser in (promote, rollback):
        parser.add_argument("--reason", default="", help="for people, 200 letters at most")
    serve = actions.add_parser("serve", help="serve the release in use to the devices of the fleet, over TLS")
    serve.add_argument("--listen", default="0.0.0.0", metavar="ADDRESS", help="default: %(default)s")
    serve.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    acts = {"list": _list, "show": _show, "create": _create, "promote": _order, "rollback": _order, "serve": _serve}
    for name, parser in actions.choices.items():
        parser.epilog = f"example: easel-server release {name}{_EXAMPLES[name]}"
        parser.add_argument(
            "--folder", type=Path, default=None, help="the fleet's folder (default: $EASEL_FLEET, else this folder)"
        )
        parser.add_argument("--json", action="store_true", help="print facts as JSON")
        parser.set_defaults(act=acts[name])


_EXAMPLES = {
    "list": " --folder fleet",
    "show": " 3 --folder fleet",
    "create": " --folder fleet --run-dir fleet/run",
    "promote": " 3 --folder fleet",
    "rollback": " 2 --folder fleet --reason 'faces look wrong'",
    "serve": " --folder fleet",
}


def _now() -> datetime:
    return datetime.now(UTC)


def _folder(arguments: argparse.Namespace) -> Path:
    folder: Path = (arguments.folder or Path(os.environ.get("EASEL_FLEET", "."))).expanduser().resolve()
    if not (folder / "signing.key").is_file() and not (folder / "releases").is_dir():
        raise InputError(f"{folder} is not a fleet's folder", hint="easel-server init makes one; name it with --folder")
    return folder


def _releases(arguments: argparse.Namespace) -> Releases:
    from server.registry import Releases

    return Releases(_folder(arguments) / "releases", clock=_now)


def _say(arguments: argparse.Namespace, facts: Any, text: str) -> None:
    print(json.dumps(facts, indent=2) if arguments.json else text)


def _list(arguments: argparse.Namespace) -> int:
    releases = _releases(arguments)
    held = releases.order()
    in_use = held[1].version if held else 0
    found = [releases.release(version).manifest for version in releases.versions()]
    lines = [
        f"{item.version:>4}  {item.created[:10]}  epsilon {_epsilon(item.total_epsilon):<9} "
        f"quality {item.evaluation.get('quality', 0.0):.4f}  {'in use' if item.version == in_use else ''}".rstrip()
        for item in found
    ]
    facts = {
        "in_use": in_use,
        "order": dataclasses.asdict(held[1]) if held else None,
        "releases": [dataclasses.asdict(item) for item in found],
        "log": [
            {key: value for key, value in entry.items() if key not in ("order", "manifest")} for entry in releases.log()
        ],
    }
    _say(arguments, facts, "\n".join(lines) or "no releases yet: easel-server release create")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from server.registry import facts

    found = facts(_releases(arguments).release(arguments.version))
    _say(arguments, found, "\n".join(f"{key:<14} {value}" for key, value in found.items()))
    return 0


def _create(arguments: argparse.Namespace) -> int:
    from server.candidate import create, from_public, from_run
    from shared_model.signatures import Signer

    folder, releases = _folder(arguments), _releases(arguments)
    candidate = from_run(arguments.run_dir) if arguments.run_dir else from_public(arguments.public)
    signer = Signer.load(folder / "signing.key")
    note = None if arguments.json else lambda text: print(text, file=sys.stderr, flush=True)
    made = create(candidate, releases, signer=signer, now=_now(), say=note or (lambda text: None)).manifest
    figures = ", ".join(f"{name} {value:g}" for name, value in sorted(made.evaluation.items()))
    text = f"release {made.version}: epsilon {_epsilon(made.total_epsilon)} over all runs; {figures}\n"
    text += f"not in use yet: easel-server release promote {made.version}"
    _say(arguments, dataclasses.asdict(made), text)
    return 0


def _order(arguments: argparse.Namespace) -> int:
    from server.candidate import promote, rollback
    from shared_model.signatures import Signer

    folder, releases = _folder(arguments), _releases(arguments)
    act = promote if arguments.action == "promote" else rollback
    order = act(releases, arguments.version, signer=Signer.load(folder / "signing.key"), reason=arguments.reason)
    text = f"order {order.sequence}: {order.action} release {order.version} (before: {order.previous or 'none'})"
    _say(arguments, dataclasses.asdict(order), text)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    import asyncio

    from server.registry import Releases
    from server.release_service import Place, ReleaseService, serve
    from shared_model.signatures import Signer

    place = Place(_folder(arguments))
    if place.signing_key.exists() and Releases(place.releases, clock=_now).resign(Signer.load(place.signing_key)):
        print("the signing key has changed: releases and the order in use are signed anew", file=sys.stderr)

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        address = f"{arguments.listen}:{arguments.port}"

        def ready(port: int) -> None:
            _say(
                arguments, {"listen": arguments.listen, "port": port}, f"serving releases on {arguments.listen}:{port}"
            )
            sys.stdout.flush()

        await serve(ReleaseService(place), address, credentials=place.credentials(), stop=stop, ready=ready)

    asyncio.run(run())
    return 0


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a log entry without the signed documents."""
    return {key: value for key, value in entry.items() if key not in ("order", "manifest")}


def _epsilon(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.3g}"
