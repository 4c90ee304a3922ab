"""The commands ``easel-server init | device | run | resume | stop``.

Modules that need torch or Flower are imported by the command that uses them, so ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_model.errors import InputError

if TYPE_CHECKING:
    from server.deployment import Fleet
    from server.events import Say

__all__ = ["declare"]


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the parser of ``easel-server``."""
    _declare_init(commands)
    _declare_device(commands)
    for name, what in (
        ("run", "run a federation, or go on with one that was interrupted"),
        ("resume", "go on with a federation; refused where there is nothing to go on with"),
    ):
        _declare_run(
            commands.add_parser(name, help=what, description=_RUN, epilog=f"example: easel-server {name} fleet")
        )
    stop = commands.add_parser(
        "stop",
        help="end the running fleet; finished rounds are saved",
        description="Ask the process that runs a fleet to end, and wait for it.",
        epilog="example: easel-server stop fleet",
    )
    stop.add_argument("folder", type=Path, metavar="FOLDER")
    stop.set_defaults(act=_stop)


_RUN = "Start a SuperLink, let enrolled devices in and run all rounds that are left."


def _declare_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = commands.add_parser(
        "init",
        help="make a fleet's folder: keys, certificates, configuration, service files",
        description="Make a folder that holds all a fleet's server needs. Nothing in it is ever overwritten.",
        epilog="example: easel-server init fleet --host fleet.example.org --host 203.0.113.7",
    )
    init.add_argument("folder", type=Path, metavar="FOLDER")
    init.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="name or address at which devices reach the server"
    )
    init.add_argument("--port", type=int, default=39300, help="where devices come (default: %(default)s)")
    init.add_argument("--control-port", type=int, default=39310, help="Flower's, loopback only (default: %(default)s)")
    init.add_argument("--listen", default="0.0.0.0", metavar="ADDRESS", help="default: %(default)s")
    change = init.add_mutually_exclusive_group()
    change.add_argument("--renew-certificate", action="store_true", help="new server certificate in an existing folder")
    change.add_argument(
        "--rotate-signing-key",
        action="store_true",
        help="new key for releases, signed by the old one, which is destroyed",
    )
    init.add_argument("--json", action="store_true", help="print facts as JSON")
    init.set_defaults(act=_init)


def _declare_device(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    device = commands.add_parser(
        "device",
        help="invite, list and revoke devices",
        description="Who belongs to the fleet. A running server follows within seconds.",
        epilog="example: easel-server device add anna --folder fleet",
    )
    actions = device.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a one-time code for a new device")
    add.add_argument("name", metavar="NAME", help="your word for the device")
    add.add_argument("--hours", type=float, default=72.0, help="how long the code is good (default: %(default)s)")
    listing = actions.add_parser("list", help="list devices")
    revoke = actions.add_parser("revoke", help="shut a device out for good")
    revoke.add_argument("name", metavar="NAME")
    for parser, act in ((add, _add), (listing, _list), (revoke, _revoke)):
        parser.add_argument(
            "--folder", type=Path, default=None, help="the fleet's folder (default: $EASEL_FLEET, else this folder)"
        )
        parser.add_argument("--json", action="store_true", help="print facts as JSON")
        parser.set_defaults(act=act)


def _declare_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="a fleet's folder")
    bare = run.add_argument_group("without a fleet's folder")
    bare.add_argument("--config", type=Path, help="TOML file with the settings of the federation")
    bare.add_argument("--run-dir", type=Path, help="folder for state and results; resumed if it has any")
    bare.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    bare.add_argument("--port", type=int, default=39300, help="default: %(default)s")
    for name, what in (("ca", "certificate of the authority"), ("cert", "certificate"), ("key", "private key")):
        bare.add_argument(f"--{name}", type=Path, help=f"{what}, PEM; all three or none (loopback only)")
    run.add_argument("--backbone", default="", help="weights to start from (default: those that easel ships)")
    run.add_argument("--json", action="store_true", help="print the result as JSON")
    run.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="say what happens in plain lines or in JSON lines (default: %(default)s)",
    )
    run.set_defaults(act=_run)


def _init(arguments: argparse.Namespace) -> int:
    from server.deployment import Fleet, ServerConfig, create, renew_certificate, rotate_signing_key
    from server.presence import utc_now

    now = utc_now()
    if arguments.renew_certificate:
        fleet = Fleet.open(arguments.folder)
        end = renew_certificate(fleet, hosts=arguments.host, now=now)
        _say(
            arguments, fleet.facts(now=now), f"new certificate, good until {end:%Y-%m-%d}; restart the server to use it"
        )
    elif arguments.rotate_signing_key:
        fleet = Fleet.open(arguments.folder)
        public = rotate_signing_key(fleet, now=now).decode()
        _say(arguments, {"signing_key": public}, "new signing key, signed by the old one; the old one is destroyed")
    else:
        config = ServerConfig(arguments.listen, arguments.port, arguments.control_port)
        fleet = create(arguments.folder, hosts=arguments.host, now=now, config=config)
        _say(arguments, {"folder": str(fleet.folder), **fleet.facts(now=now)}, _CREATED.format(folder=fleet.folder))
    return 0


_CREATED = """\
made {folder}, which only you can read
next: set population, cohort and epsilon in {folder}/federation.toml
      easel-server device add NAME --folder {folder}
      easel-server run {folder}
keep ca.key and signing.key safe: a copy of them off this machine, ca.key best only there"""


def _run(arguments: argparse.Namespace) -> int:
    from server.events import Speaker
    from server.status import show

    stream = sys.stderr if arguments.json else sys.stdout
    say = Speaker(stream, format=arguments.log_format, clock=_now)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop is a Ctrl-C
    if arguments.folder is not None:
        from server.operation import operate

        fleet = _fleet(arguments.folder)
        operate(fleet, backbone=arguments.backbone, resume=arguments.command == "resume", say=say)
        run_dir = fleet.run
    else:
        run_dir = _run_bare(arguments, say)
    if arguments.json or arguments.log_format == "text":
        print(show(run_dir, as_json=arguments.json))
    return 0


def _run_bare(arguments: argparse.Namespace, say: Say) -> Path:
    from server.launch import certificates, launch
    from server.state import StateStore
    from shared_model.errors import MissingError

    if arguments.config is None or arguments.run_dir is None:
        raise InputError(
            "name a fleet's folder, or give --config and --run-dir", hint="easel-server init makes a folder"
        )
    run_dir: Path = arguments.run_dir
    if arguments.command == "resume" and StateStore(run_dir).load() is None:
        raise MissingError(f"there is no run in {run_dir}", hint="start one with easel-server run")
    where = certificates(arguments.host, arguments.port, ca=arguments.ca, cert=arguments.cert, key=arguments.key)
    launch(arguments.config, run_dir=run_dir, backbone=arguments.backbone, where=where, say=say)
    return run_dir


def _stop(arguments: argparse.Namespace) -> int:
    from server.presence import stop_fleet

    stopped = stop_fleet(_fleet(arguments.folder))
    print("stopped; finished rounds are saved" if stopped else "this fleet is not running")
    return 0


def _add(arguments: argparse.Namespace) -> int:
    from server.presence import registry

    fleet = _fleet_of(arguments)
    code = registry(fleet).invite(arguments.name, authority=fleet.authority_print(), hours=arguments.hours).code()
    host, port = fleet.facts(now=_now())["host"], fleet.config().port
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = f"easel join --server {server} --code {code} --photos DIR --art DIR"
    facts = {"name": arguments.name, "code": code, "server": server, "hours": arguments.hours}
    text = f"good once, for {arguments.hours:g} hours; give it to the owner over a channel you both trust\n{command}"
    _say(arguments, facts, text)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from server.presence import connected, registry

    fleet = _fleet_of(arguments)
    states = connected(fleet)
    found = [
        {**device.facts(), "connection": states.get(device.name, "unknown" if device.state == "enrolled" else "")}
        for device in registry(fleet).devices().values()
    ]
    lines = [
        f"{item['name']:<24} {item['state']:<9} {item['connection']:<11} "
        f"{item['revoked'] or item['enrolled'] or 'code until ' + item['expires']}"
        for item in found
    ]
    _say(arguments, {"devices": found}, "\n".join(lines) if lines else "no devices yet: easel-server device add NAME")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from server.presence import registry

    device = registry(_fleet_of(arguments)).revoke(arguments.name)
    _say(arguments, device.facts(), f"{device.name} is revoked; a running server shuts it out within seconds")
    return 0


def _fleet(folder: Path) -> Fleet:
    from server.deployment import Fleet

    return Fleet.open(folder)


def _fleet_of(arguments: argparse.Namespace) -> Fleet:
    return _fleet(arguments.folder or Path(os.environ.get("EASEL_FLEET", ".")))


def _now() -> Any:
    from server.presence import utc_now

    return utc_now()


def _say(arguments: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    print(json.dumps(facts, indent=2) if arguments.json else text)
