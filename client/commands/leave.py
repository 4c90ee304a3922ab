"""``easel leave``: take no further part, and remove what joining has put here."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from pathlib import Path

from client.console import Console
from shared_model.errors import EaselError, FederationError, MissingError

__all__ = ["add_arguments", "run"]

_PATIENCE_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the device folder (default: in $EASEL_HOME)")
    parser.add_argument(
        "--forget-ledger",
        action="store_true",
        help="remove the privacy ledger too; easel then no longer knows what was given away, and a later join "
        "starts counting at zero",
    )
    parser.add_argument("--json", action="store_true", help="print facts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Stop, sign off at the server, remove; returns the exit code."""
    from client.membership import Membership, forget, forget_ledger
    from client.paths import home_folder
    from client.supernode import end_orphan

    console = Console(json=arguments.json)
    folder = (arguments.folder.expanduser() if arguments.folder else home_folder() / "device").absolute()
    if not folder.is_dir():
        raise MissingError(f"there is no device folder {folder}", hint="name it with --folder")
    _end_supervisor(folder)
    end_orphan(Membership.node(folder))
    told = _sign_off(folder, console)
    releases, painting = _forget_releases(folder, console)
    gone = forget(folder, ledger=arguments.forget_ledger)
    if arguments.forget_ledger:
        forget_ledger(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()
    kept = (folder / "ledger.json").exists()
    facts = {"removed": gone, "releases_removed": releases, "release_kept": painting}
    console.facts({**facts, "server_told": told, "ledger_kept": kept})
    console.say(f"removed {', '.join(gone)}" if gone else "there was nothing to remove")
    if releases:
        console.say(f"removed what was fetched: release {', '.join(map(str, releases))}")
    if painting is not None:
        console.say(
            f"kept release {painting}, which paints your pictures and fits your heads; to go back to the backbone that "
            f"came with easel: easel models use default, then easel models remove {painting}"
        )
    if kept:
        console.say(
            f"kept {folder / 'ledger.json'}, your record of what was given away (easel privacy {folder}); "
            "--forget-ledger removes it"
        )
    return 0


def _end_supervisor(folder: Path) -> None:
    """End ``easel join`` where it runs, and wait."""
    from client.supervisor import supervising

    pid = supervising(folder)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + _PATIENCE_S
    while supervising(folder) is not None:
        if time.monotonic() >= end:
            raise FederationError(f"process {pid} did not end within {_PATIENCE_S:g} s", hint="try again in a minute")
        time.sleep(0.1)


def _sign_off(folder: Path, console: Console) -> bool | None:
    """Tell the server to forget the key; None if this device has not joined, False if it could not be told."""
    from client.enrolment import say_farewell
    from client.ledger import utc_now
    from client.membership import Membership
    from client.node_key import NodeKey

    try:
        membership = Membership.load(folder)
    except EaselError:
        return None
    try:
        ca = Membership.ca(folder).read_text(encoding="ascii")
        say_farewell(membership.server, ca=ca, key=NodeKey.open(Membership.key(folder)), now=utc_now())
    except (EaselError, OSError, ValueError) as error:
        what = error.message if isinstance(error, EaselError) else str(error)
        console.warn(
            f"the server could not be told ({what})",
            hint=f"the key is removed here, so nobody can use it; the operator may revoke {membership.name!r}",
        )
        return False
    return True


def _forget_releases(folder: Path, console: Console) -> tuple[list[int], int | None]:
    """Remove what was fetched from the fleet, but for the release that paints; return what went and what stayed."""
    from client.models import Models, models_folder
    from client.shelf import Shelf
    from shared_model.signatures import read_public

    path = folder / "signing.pub"
    if not path.exists():
        return [], None
    try:
        shelf, painting = Shelf(models_folder(), root=read_public(path)), Models(models_folder()).in_use()
        gone = shelf.forget(keep=painting)
    except EaselError as error:
        console.warn(f"releases of the fleet stay here: {error.message}", hint=error.hint or "easel models list")
        return [], None
    return gone, painting.version if painting is not None and painting.fleet == shelf.fleet else None
