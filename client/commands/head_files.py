"""``easel heads export | import | refit``: heads that come, go and stay up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console, format_bytes
from shared_model.errors import InputError

if TYPE_CHECKING:
    from client.store import Home
    from shared_model.head import Head

__all__ = ["add_actions", "export", "import_", "refit"]

_WARNING = {
    "": "this file contains pieces and small copies of the pictures that the head was made from",
    "blur": "this file contains blurred pieces of the pictures that the head was made from, and their colors",
    "drop-patches": "this file contains no piece of a picture, but the colors and textures in numbers",
}


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the three actions."""
    export = actions.add_parser(
        "export",
        help="write a head into one file",
        epilog="example: easel heads export my-monet monet.head --passphrase",
    )
    export.add_argument("name", metavar="NAME")
    export.add_argument("file", metavar="FILE", help="where to, or a folder")
    less = export.add_mutually_exclusive_group()
    less.add_argument("--blur", action="store_const", const="blur", dest="redaction", help="blur its patches")
    less.add_argument(
        "--drop-patches",
        action="store_const",
        const="drop-patches",
        dest="redaction",
        help="replace its patches by pieces of public photos in its colors",
    )
    export.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    entry = actions.add_parser(
        "import", help="take in a head from a file", epilog="example: easel heads import monet.head --name claude"
    )
    entry.add_argument("file", metavar="FILE")
    entry.add_argument("--name", metavar="NAME", help="what to call it (default: its own name)")
    entry.add_argument("--overwrite", action="store_true", help="replace a head of that name")
    for action in (export, entry):
        action.add_argument("--passphrase-file", metavar="F", help="a file whose first line is the passphrase")
    export.add_argument("--passphrase", action="store_true", help="seal it: asks for a passphrase")
    again = actions.add_parser(
        "refit",
        help="bring a head of your own up to date with the backbone",
        epilog="example: easel heads refit my-monet monet1.jpg monet2.jpg",
    )
    again.add_argument("name", metavar="NAME")
    again.add_argument("pictures", nargs="*", metavar="IMAGE", help="what it was made from; without them it is a guess")
    again.add_argument(
        "--budget", type=float, default=20.0, metavar="SECONDS", help="tuning with pictures (default 20)"
    )
    again.add_argument("--force", action="store_true", help="even if it fits the backbone already")
    for action in (export, entry, again):
        action.add_argument("--json", action="store_true", help="print as JSON")


def export(home: Home, arguments: argparse.Namespace, console: Console) -> int:
    """Write a parcel; returns the exit code."""
    from client.parcel import pack, target, write

    found = home.find(arguments.name)
    redaction = arguments.redaction or ""
    file = target(Path(arguments.file).expanduser(), name=found.name, overwrite=arguments.overwrite)
    head = found.load()
    sealed = arguments.passphrase or arguments.passphrase_file
    passphrase = _passphrase(arguments.passphrase_file, new=True) if sealed else None
    data = pack(head, name=found.name, passphrase=passphrase, redaction=redaction)
    write(data, file)
    console.facts(
        {"path": str(file), "size_bytes": len(data), "sealed": passphrase is not None, "redaction": redaction or None}
    )
    console.say(f"{file}  {format_bytes(len(data))}{', sealed' if sealed else ''}")
    if not found.shipped:
        console.warn(
            _WARNING[redaction], hint="give it only to people who may see those pictures" if not sealed else ""
        )
    return 0


def import_(home: Home, arguments: argparse.Namespace, console: Console) -> int:
    """Take a parcel in; returns the exit code."""
    from dataclasses import replace

    from client.models import backbone_in_use
    from client.parcel import suggest_name, unpack
    from client.store import check_name
    from shared_model.weights import backbone_id

    file = Path(arguments.file).expanduser()
    if arguments.name:
        home.check_free(arguments.name, overwrite=arguments.overwrite)
    head = unpack(file, ask=lambda: _passphrase(arguments.passphrase_file, new=False))
    name = check_name(arguments.name) if arguments.name else suggest_name(head, file)
    saved = home.save_head(replace(head, name=name), name=name, overwrite=arguments.overwrite)
    matches = head.backbone == backbone_id(backbone_in_use())
    console.facts({"name": saved.name, "path": str(saved.path), "images": head.images, "backbone_matches": matches})
    console.say(f"head {saved.name!r} taken in; use it with: easel stylize photo.jpg --head {saved.name}")
    if hidden := home.hidden_by(saved.name):
        console.note(hidden)
    if not matches:
        console.warn(
            "this head was made for another backbone and cannot paint yet",
            hint=f"easel heads refit {saved.name} (better with its pictures: easel heads refit {saved.name} IMAGE ...)",
        )
    return 0


def refit(home: Home, arguments: argparse.Namespace, console: Console) -> int:
    """Bring a head up to date; returns the exit code."""
    from client.models import backbone_in_use
    from client.personalize import check_budget
    from client.refit import refit as fit_again
    from shared_model.tuning import tune
    from shared_model.weights import backbone_id

    check_budget(arguments.budget)
    found = home.find(arguments.name)
    if found.shipped:
        raise InputError(f"head {found.name!r} comes with easel and is never out of date", hint="easel heads list")
    head, backbone = found.load(), backbone_in_use()
    if head.backbone == backbone_id(backbone) and not (arguments.force or arguments.pictures):
        raise InputError(f"head {found.name!r} fits the backbone already", hint="name its pictures, or add --force")
    pictures = _pictures(arguments.pictures, head, console)
    fitted = fit_again(head, backbone, pictures=pictures)
    if pictures and arguments.budget > 0:
        with console.progress(f"tuning {found.name}") as advance:
            fitted = tune(
                fitted,
                pictures,
                backbone=backbone,
                budget_s=arguments.budget,
                progress=lambda fraction, loss: advance(fraction, f"loss {loss:.4f}"),
            )
    saved = home.save_head(fitted, name=found.name, overwrite=True)
    console.facts({"name": saved.name, "backbone": fitted.backbone, "pictures": len(pictures)})
    console.say(f"head {saved.name!r} fits the backbone again")
    if not pictures:
        console.warn(
            "done without its pictures, from what the head still knows: close to a new fit, not equal; tuning is lost",
            hint=f"with the pictures it is exact: easel heads refit {saved.name} IMAGE ...",
        )
    return 0


def _pictures(given: list[str], head: Head, console: Console) -> list:  # type: ignore[type-arg]
    from client.personalize import MAX_STYLES, load_pictures
    from shared_model.images import find_pictures

    if not given:
        return []
    loaded, _ = load_pictures(
        find_pictures(given), limit=MAX_STYLES, warn=lambda error: console.warn(error.message, hint=error.hint)
    )
    if len(loaded) != head.images:
        console.warn(
            f"this head was made from {head.images} pictures, {len(loaded)} are given", hint="are these the ones?"
        )
    return loaded


def _passphrase(path: str | None, *, new: bool) -> str:
    """Read a passphrase from the first line of a file, or ask for it in a terminal, a new one twice."""
    from client.passphrase import check_passphrase
    from shared_model.files import read_bytes

    if path:
        try:
            passphrase = (read_bytes(Path(path).expanduser(), limit=1 << 16).decode() or "\n").splitlines()[0]
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text", hint="write the passphrase into its first line") from error
    elif not sys.stdin.isatty():
        raise InputError("a passphrase is needed", hint="add --passphrase-file F, or run this in a terminal")
    else:
        import getpass

        passphrase = getpass.getpass("passphrase: ")
        if new and getpass.getpass("once more: ") != passphrase:
            raise InputError("the two passphrases differ", hint="nothing was written; try again")
    check_passphrase(passphrase, new=new)
    return passphrase
