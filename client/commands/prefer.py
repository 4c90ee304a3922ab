"""``easel prefer``: choose between paintings, and the head learns what its owner likes."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console
from shared_model.errors import InputError

if TYPE_CHECKING:
    from client.preferences import Manner, Preferences
    from client.store import Home

__all__ = ["add_arguments", "run"]

_ENOUGH = 15  # choices after which the best guess usually wins


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="NAME", help="the head that learns")
    parser.add_argument("photo", nargs="?", metavar="PHOTO", help="a photo to paint the candidates of")
    parser.add_argument(
        "--choose",
        nargs="+",
        metavar="I,J",
        help="numbers of the candidates shown last that you like, best first; they win over all others",
    )
    parser.add_argument("-o", "--out", metavar="OUT", help="the sheet (default: <photo>-<head>.choices.png here)")
    parser.add_argument("--candidates", type=int, default=4, metavar="N", help="how many to show, 2 to 12 (default 4)")
    parser.add_argument("--with", dest="partner", metavar="HEAD", help="also try how much of this head to mix in")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="short side of a candidate (default 512)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another number shows others (default 0)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--show", action="store_true", help="say what has been learned")
    action.add_argument("--apply", action="store_true", help="paint so from now on, where no option says otherwise")
    action.add_argument("--reset", action="store_true", help="forget all choices, and paint as the head was made")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show, learn, apply or forget; returns the exit code."""
    from client.preferences import Preferences
    from client.store import Home
    from client.tasting import partnered, present

    console = Console(json=arguments.json)
    home = Home.default()
    name = home.find(arguments.name).name
    path = home.preferences_path(name)
    if arguments.reset:
        path.unlink(missing_ok=True)
        console.facts({"name": name, "choices": 0})
        console.say(f"{name} knows nothing of your taste any more and paints as it was made")
        return 0
    known = Preferences.load(path)
    if arguments.partner is not None:
        known = partnered(known, home, head=name, partner=arguments.partner)
    if arguments.choose:
        known = _answered(known, _numbers(arguments.choose))
        known.save(path)
    if known.partner and not present(known, home).partner:
        hint = (
            f"easel heads import brings it back; easel prefer {name} --reset forgets the choices, then --with another"
        )
        console.warn(f"{known.partner!r} is not there any more: the choices are kept, and it is left out", hint=hint)
    if arguments.apply:
        return _apply(known, path, name, console, best=present(known, home).best())
    if arguments.photo is None:
        if not (arguments.show or arguments.choose):
            raise InputError("which photo?", hint=f"easel prefer {name} PHOTO; or --show, --apply, --reset")
        return _tell(present(known, home), name, console)
    sheet = _Sheet.of(arguments, home, name)
    known = sheet.draw(known, console)
    known.save(path)
    if console.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        sheet.tell(known, console)
        return 0
    return _converse(known, sheet, path, console)


@dataclass(frozen=True)
class _Sheet:
    """Paints candidates of one photo and lays them out."""

    home: Home
    name: str
    photo: Path
    out: Path
    count: int
    size_px: int
    seed: int
    device: str

    @classmethod
    def of(cls, arguments: argparse.Namespace, home: Home, name: str) -> _Sheet:
        photo = Path(arguments.photo).expanduser()
        out = Path(arguments.out).expanduser() if arguments.out else Path(f"{photo.stem}-{name}.choices.png")
        return cls(home, name, photo, out, arguments.candidates, arguments.size, arguments.seed, arguments.device)

    def draw(self, known: Preferences, console: Console) -> Preferences:
        """Propose, paint and write the sheet; returns the state that waits for the answer."""
        from client.candidates import paint_candidates
        from client.portrait import write_sheet
        from client.sheet import Tile, contact_sheet
        from client.tasting import present

        usable = present(known, self.home)
        shown = usable.pending or usable.propose(self.count, seed=self.seed)
        with console.progress("painting candidates") as advance:
            painted = paint_candidates(
                self.home,
                self.name,
                shown,
                photo=self.photo,
                partner=usable.partner,
                size_px=self.size_px,
                seed=self.seed,
                device=self.device,
                progress=lambda fraction: advance(fraction, ""),
            )
        tiles = [
            Tile(pixels, f"{number}\n{_words(one)}")
            for number, (pixels, one) in enumerate(zip(painted, shown, strict=True), 1)
        ]
        width = 2 if len(tiles) <= 4 else 3
        rows = [tiles[start : start + width] for start in range(0, len(tiles), width)]
        pixels = contact_sheet(rows, tile_px=min(640, max(256, self.size_px)))
        write_sheet(self.out, pixels, kind="choices")
        return dataclasses.replace(known, pending=shown)

    def tell(self, known: Preferences, console: Console) -> None:
        """Say where the sheet is and how to answer."""
        candidates = [{"number": n, **dataclasses.asdict(one)} for n, one in enumerate(known.pending, 1)]
        console.facts(
            {"name": self.name, "sheet": str(self.out), "candidates": candidates, "choices": len(known.answers)}
        )
        console.say(f"{self.out}  {len(known.pending)} candidates; {_so_far(known)}")
        console.say(f"answer with: easel prefer {self.name} {self.photo} --choose NUMBER")


def _converse(known: Preferences, sheet: _Sheet, path: Path, console: Console) -> int:
    """Ask, learn and show the next candidates until the owner has enough."""
    while True:
        console.say(f"{sheet.out}  look at it (choice {len(known.answers) + 1}, about {_ENOUGH} are enough)")
        print("which do you like? numbers, best first; Enter stops: ", end="", file=console.err, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return _tell(known, sheet.name, console)
        try:
            known = _answered(known, _numbers([line]))
        except InputError as error:
            console.error(error)
            continue
        known.save(path)
        known = sheet.draw(known, console)
        known.save(path)


def _answered(known: Preferences, numbers: Sequence[int]) -> Preferences:
    if not known.pending:
        raise InputError("no candidates wait for a choice", hint="show some first: easel prefer NAME PHOTO")
    return known.choose(known.pending, tuple(number - 1 for number in numbers))


def _numbers(texts: Sequence[str]) -> list[int]:
    pieces = [piece for piece in re.split(r"[,\s]+", " ".join(texts)) if piece]
    if not pieces or not all(piece.isascii() and piece.isdigit() and len(piece) < 4 for piece in pieces):
        raise InputError(f"cannot read {' '.join(texts)!r} as a choice", hint="numbers, best first, such as 3 or 3,1")
    return [int(piece) for piece in pieces]


def _apply(known: Preferences, path: Path, name: str, console: Console, *, best: Manner) -> int:
    if not known.answers:
        raise InputError(f"{name} knows nothing of your taste yet", hint=f"choose first: easel prefer {name} PHOTO")
    known = dataclasses.replace(known, defaults=best)
    known.save(path)
    console.facts(_facts(known, name))
    console.say(f"from now on {name} paints with {known.defaults}")
    console.say("easel stylize says so each time; --plain paints without, and any option wins over it")
    return 0


def _tell(known: Preferences, name: str, console: Console) -> int:
    console.facts(_facts(known, name))
    console.say(f"{name}: {_so_far(known)} (about {_ENOUGH} are enough)")
    if known.answers:
        console.say(f"you should like: {known.best()}")
        console.say(f"better than as it was made, with probability {known.confidence():.2f}")
    used = "as the head was made" if known.defaults is None else str(known.defaults)
    console.say(f"it paints: {used}")
    if known.answers and known.defaults is None:
        console.say(f"to paint so from now on: easel prefer {name} --apply")
    return 0


def _facts(known: Preferences, name: str) -> dict[str, object]:
    return {
        "name": name,
        "choices": len(known.answers),
        "partner": known.partner or None,
        "best": dataclasses.asdict(known.best()) if known.answers else None,
        "better_than_the_defaults": round(known.confidence(), 4) if known.answers else None,
        "defaults": None if known.defaults is None else dataclasses.asdict(known.defaults),
    }


def _so_far(known: Preferences) -> str:
    count = len(known.answers)
    return f"{count} choice{'s' if count != 1 else ''} so far"


def _words(manner: Manner) -> str:
    """Two short lines for a caption."""
    pieces = str(manner).split(", ")
    return ", ".join(pieces[:3]) + "\n" + ", ".join(pieces[3:])
