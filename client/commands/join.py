"""``easel join``: become part of a fleet, then take part whenever the owner's policy allows."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console
from shared_model.errors import EaselError, InputError, MissingError

if TYPE_CHECKING:
    from client.data import DeviceConfig
    from client.membership import Membership

__all__ = ["add_arguments", "run"]

_LOOK_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    first = parser.add_argument_group("the first time")
    first.add_argument("--server", metavar="HOST:PORT", help="as the fleet's operator told you")
    first.add_argument("--code", help="the one-time code that the operator gave you; - reads it from standard input")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos to learn on; they stay here")
    parser.add_argument("--art", type=Path, metavar="DIR", help="pictures in your taste; they stay here")
    parser.add_argument(
        "--max-epsilon", type=float, metavar="E", help="your privacy budget for good (default: 8; can only be lowered)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), help="where training computes from now on (default: cpu)"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the device folder (default: in $EASEL_HOME)")
    parser.add_argument("--enroll-only", action="store_true", help="join, but do not start taking part now")
    parser.add_argument("--json", action="store_true", help="print facts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Join if need be, then take part until stopped; returns the exit code."""
    from client.membership import Membership
    from client.paths import home_folder
    from client.supervisor import only_one

    console = Console(json=arguments.json)
    folder = (arguments.folder.expanduser() if arguments.folder else home_folder() / "device").absolute()
    with only_one(folder):
        try:
            membership = Membership.load(folder)
        except MissingError:
            membership = _join(folder, arguments)
            console.say(
                f"joined {membership.server} as {membership.name!r}; your pictures and heads stay in this device"
            )
        else:
            _change(folder, membership, arguments)
        facts = {"server": membership.server, "name": membership.name, "folder": str(folder)}
        console.facts(facts)
        if not arguments.enroll_only:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop is a Ctrl-C
            _take_part(folder, membership, say=console.note)
    return 0


def _join(folder: Path, arguments: argparse.Namespace) -> Membership:
    """Enrol. What can fail here fails before the one-time code is used."""
    from client.data import write_device
    from client.enrolment import enrol, parse_server
    from client.membership import Membership, forget_ledger
    from client.node_key import NodeKey
    from shared_model.invitation import Invitation

    missing = [f"--{name}" for name in ("server", "code", "photos", "art") if getattr(arguments, name) is None]
    if missing:
        raise InputError(f"to join a fleet, give {', '.join(missing)}", hint="easel join --help has an example")
    parse_server(arguments.server)
    invitation = Invitation.parse(sys.stdin.readline().strip() if arguments.code == "-" else arguments.code)
    config = _device(None, arguments)
    with contextlib.ExitStack() as undo:
        if _open_ledger(folder, config):
            undo.callback(forget_ledger, folder)  # a budget is for good once it was joined with, not before
        write_device(folder, config)
        key = NodeKey.open(Membership.key(folder))
        enrolled = enrol(arguments.server, invitation=invitation, key=key)
        undo.pop_all()
    membership = Membership(arguments.server, enrolled.name)
    membership.save(folder, ca=enrolled.ca, signing_key=enrolled.signing_key)
    return membership


def _change(folder: Path, membership: Membership, arguments: argparse.Namespace) -> None:
    """Take over new folders or a lower budget; refuse another fleet."""
    from client.data import load_device, write_device

    if arguments.code is not None or arguments.server not in (None, membership.server):
        raise InputError(
            f"this device has joined {membership.server} as {membership.name!r} already",
            hint="easel leave first, or use another --folder",
        )
    if any(getattr(arguments, name) is not None for name in ("photos", "art", "max_epsilon", "device")):
        config = _device(load_device(folder), arguments)
        _open_ledger(folder, config)
        write_device(folder, config)


def _device(known: DeviceConfig | None, arguments: argparse.Namespace) -> DeviceConfig:
    """Return the settings of the device, with pictures that can be found."""
    from client.data import DeviceConfig
    from client.placement import place
    from shared_model.images import find_pictures

    given = {
        name: getattr(arguments, name).expanduser().absolute()
        for name in ("photos", "art")
        if getattr(arguments, name) is not None
    }
    for path in given.values():
        find_pictures([path])
    if known is None:
        config = DeviceConfig(photos=given["photos"], art=given["art"])
    else:
        config = dataclasses.replace(known, **given)
    changed = {name: getattr(arguments, name) for name in ("max_epsilon", "device")}
    config = dataclasses.replace(config, **{name: value for name, value in changed.items() if value is not None})
    place(config.device)
    return config


def _open_ledger(folder: Path, config: DeviceConfig) -> bool:
    """Make the ledger, or lower its limits; one that stayed from an earlier fleet goes on counting. True: made."""
    from client.ledger import Ledger
    from client.ledger_file import LedgerFile
    from client.paths import witness_folder

    path, witness = folder / "ledger.json", witness_folder()
    new = not LedgerFile(path, witness=witness).exists()
    Ledger.open(path, max_epsilon=config.max_epsilon, delta=config.delta, witness=witness)
    return new


def _take_part(folder: Path, membership: Membership, *, say: Callable[[str], None]) -> None:
    """Supervise the SuperNode until interrupted."""
    from client.conditions import read_machine
    from client.data import load_device
    from client.enrolment import free_port
    from client.placement import place
    from client.policy import load_policy
    from client.rest import rest_objections
    from client.supernode import SuperNode, command, end_orphan
    from client.supervisor import Supervisor

    place(load_device(folder).device)
    home, budget = membership.node(folder), _Budget(folder)
    if end_orphan(home):
        say("ended the SuperNode of an earlier start")

    def start() -> SuperNode:
        return SuperNode(command(folder, membership, port=free_port()), home=home, environ=os.environ)

    def objections(taking_part: bool) -> Sequence[str]:
        try:
            when = load_policy(folder, simulated=False).when  # read each time: the owner may change it
            found = when.objections(read_machine(epsilon_left=budget.left(), taking_part=taking_part))
            return found + rest_objections(folder, now=time.time())
        except EaselError as error:
            return [error.message]

    supervisor = Supervisor(start, objections=objections, clock=time.monotonic, say=say)
    try:
        while True:
            supervisor.step()
            time.sleep(_LOOK_S)
    finally:
        supervisor.close()


class _Budget:
    """What is left of the privacy budget, accounted again only when the ledger has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.json"
        self._seen: tuple[int, float | None] | None = None

    def left(self) -> float | None:
        """Return it; None for no limit."""
        from client.ledger import Ledger
        from client.paths import witness_folder

        stamp = self._path.stat().st_mtime_ns if self._path.exists() else 0
        if self._seen is None or self._seen[0] != stamp:
            found = Ledger.open(self._path, witness=witness_folder()).summary()
            self._seen = (stamp, None if found["max_epsilon"] is None else found["epsilon_left"])
        return self._seen[1]
