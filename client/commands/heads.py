"""``easel heads``: what heads there are, what they look like, what they are called."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.commands import head_files
from client.console import Console, format_bytes
from shared_model.errors import EaselError, InputError

if TYPE_CHECKING:
    from client.store import HeadFile, Home

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list all heads", epilog="example: easel heads list --json")
    listing.add_argument("--sheet", metavar="OUT", help="also draw them: a sample painting and what they are made from")
    show = actions.add_parser("show", help="show one head", epilog="example: easel heads show oil")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--picture", metavar="OUT", help="also draw it: a sample painting and what it is made from")
    rename = actions.add_parser(
        "rename", help="rename a head of your own", epilog="example: easel heads rename monet claude"
    )
    rename.add_argument("name", metavar="NAME")
    rename.add_argument("new_name", metavar="NEW_NAME")
    delete = actions.add_parser(
        "delete", help="delete heads of your own for good", epilog="example: easel heads delete my-monet --yes"
    )
    delete.add_argument("names", nargs="+", metavar="NAME")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    for action in (listing, show, rename, delete):
        action.add_argument("--json", action="store_true", help="print as JSON")
    head_files.add_actions(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the action asked for; returns the exit code."""
    from client.store import Home

    console = Console(json=arguments.json)
    home = Home.default()
    if arguments.action in ("export", "import", "refit"):
        act = {"export": head_files.export, "import": head_files.import_, "refit": head_files.refit}
        return act[arguments.action](home, arguments, console)
    if arguments.action == "list":
        return _list(home, console, sheet=arguments.sheet)
    if arguments.action == "show":
        return _show(home, arguments.name, console, picture=arguments.picture)
    if arguments.action == "rename":
        renamed = home.rename_head(arguments.name, arguments.new_name)
        console.facts({"name": renamed.name, "path": str(renamed.path)})
        console.say(f"{arguments.name!r} is now called {renamed.name!r}")
        if hidden := home.hidden_by(renamed.name):
            console.note(hidden)
        return 0
    return _delete(home, arguments.names, console, yes=arguments.yes)


@dataclass(frozen=True)
class _Facts:
    """What can be told about a head file, damaged or not."""

    name: str
    shipped: bool
    path: str
    size_bytes: int
    images: int | None = None
    created: str | None = None
    backbone: str | None = None
    tuned: bool | None = None
    brush: tuple[int, int] | None = None  # width and length of broad strokes in pixels of the canvas
    hatch_px: float | None = None  # width of the lines that it hatches with
    areas: int | None = None  # tones of the areas that it fills
    wash: float | None = None  # how unevenly pigment lies in its washes
    canvas_px: int | None = None
    matches: bool | None = None
    damage: str | None = None

    @property
    def state(self) -> str:
        """One word or a few for the table."""
        if self.damage is not None:
            return "damaged"
        if self.matches is None:
            return "not checked"
        return "ready" if self.matches else "for another backbone"

    @property
    def strokes(self) -> str:
        """What it paints with."""
        if self.brush is not None:
            return "broad, {} pixels wide and up to {} long on a canvas of {}".format(*self.brush, self.canvas_px)
        if self.hatch_px is not None:
            return f"hatched in one ink, lines about {self.hatch_px:g} pixels wide on a canvas of {self.canvas_px}"
        if self.wash is not None:
            return "none: washes that wander and have dark rims"
        return "fine" if self.areas is None else f"none: even areas in {self.areas} tones, with outlines"


def _facts(file: HeadFile, backbone: str) -> _Facts:
    known = (file.name, file.shipped, str(file.path), file.size_bytes)
    try:
        head = file.load()
    except EaselError as error:
        return _Facts(*known, damage=error.message)
    matches = head.backbone == backbone if backbone else None
    config = head.config
    return _Facts(
        *known,
        head.images,
        head.created,
        head.backbone,
        tuned=head.change is not None,
        brush=(4 * config.brush + 2, 4 * config.stroke + 2) if config.brush > 0 else None,  # halves, of half the size
        hatch_px=round(2 * config.hatch, 1) if config.hatch > 0 else None,
        areas=config.areas or None,
        wash=config.wash or None,
        canvas_px=config.canvas_px,
        matches=matches,
    )


def _backbone_id(console: Console) -> str:
    """Return the backbone that heads must match, or an empty text if it cannot be read."""
    from client.models import backbone_in_use
    from shared_model.weights import backbone_id

    try:
        return backbone_id(backbone_in_use())
    except EaselError as error:
        console.warn(error.message, hint=error.hint)
        return ""


def _draw(files: list[HeadFile], out: str, console: Console) -> None:
    """Write a sheet with the heads that can be read."""
    from pathlib import Path

    from client.engine import Engine
    from client.models import backbone_in_use
    from client.portrait import portrait, sheet, write_sheet

    engine = Engine(backbone_in_use())
    rows = []
    with console.progress("painting samples") as advance:
        for number, file in enumerate(files):
            advance(number / len(files), file.name)
            try:
                rows.append(portrait(file.name, file.load(), engine))
            except EaselError as error:
                console.warn(error.message, hint=error.hint)
    console.note(f"drawn: {write_sheet(Path(out).expanduser(), sheet(rows), kind='heads')}")


def _list(home: Home, console: Console, *, sheet: str | None) -> int:
    backbone = _backbone_id(console)
    if sheet:
        _draw(home.heads(), sheet, console)
    found = [_facts(file, backbone) for file in home.heads()]
    console.facts({"heads": [_as_json(facts) for facts in found], "folder": str(home.heads_folder)})
    if not found:
        console.say("no heads yet; make one with: easel personalize NAME PICTURE ...")
        return 0
    rows = [
        (
            facts.name,
            "shipped" if facts.shipped else "yours",
            str(facts.images or "-"),
            (facts.created or "-")[:10],
            format_bytes(facts.size_bytes),
            facts.state,
        )
        for facts in found
    ]
    console.table(rows, header=("NAME", "FROM", "PICTURES", "MADE", "SIZE", "STATE"))
    return 0


def _show(home: Home, name: str, console: Console, *, picture: str | None) -> int:
    file = home.find(name)
    facts = _facts(file, _backbone_id(console))
    if picture and facts.damage is None:
        _draw([file], picture, console)
    console.facts(_as_json(facts))
    if facts.damage is not None and not console.json:
        file.load()  # tells what is wrong
    console.say(f"name      {facts.name} ({'shipped with easel' if facts.shipped else 'yours'})")
    console.say(f"state     {facts.state}")
    console.say(f"pictures  {facts.images}")
    console.say(f"strokes   {facts.strokes}")
    console.say(f"hand      {'its own, tuned to its pictures' if facts.tuned else 'the shared one'}")
    console.say(f"made      {facts.created or 'unknown'}")
    console.say(f"backbone  {facts.backbone}")
    console.say(f"file      {facts.path} ({format_bytes(facts.size_bytes)})")
    if not facts.shipped:
        console.warn(
            "this file contains small pieces of the pictures it was made from",
            hint="do not give it to anybody who may not see those pictures",
        )
    if facts.matches is False:
        console.warn(
            "this head was made for another backbone",
            hint=f"bring it up to date: easel heads refit {facts.name} [IMAGE ...]",
        )
    return 0 if facts.damage is None else 5


def _delete(home: Home, names: list[str], console: Console, *, yes: bool) -> int:
    files = [home.find(name) for name in names]
    shipped = [file.name for file in files if file.shipped]
    if shipped:
        raise InputError(f"head {shipped[0]!r} is shipped with easel and cannot be deleted", hint="easel heads list")
    listed = ", ".join(file.name for file in files)
    if not yes and not console.ask(f"delete {listed} for good?"):
        raise InputError("nothing was deleted", hint="answer y, or add --yes")
    for file in files:
        home.delete_head(file.name)
        console.say(f"deleted {file.name}")
    console.facts({"deleted": [file.name for file in files]})
    return 0


def _as_json(facts: _Facts) -> dict[str, object]:
    return {
        "name": facts.name,
        "shipped": facts.shipped,
        "tuned": facts.tuned,
        "stroke_px": None if facts.brush is None else list(facts.brush),
        "hatch_px": facts.hatch_px,
        "areas": facts.areas,
        "wash": facts.wash,
        "canvas_px": facts.canvas_px,
        "path": facts.path,
        "size_bytes": facts.size_bytes,
        "images": facts.images,
        "created": facts.created,
        "backbone": facts.backbone,
        "backbone_matches": facts.matches,
        "damage": facts.damage,
    }
