"""Few-shot and cross-domain: a head from ONE picture, in manners near to and far from the training art.

Near are oil and impressionist paintings; far are line drawing, red chalk, woodcut, mosaic (all by easel's own
painters) and whatever pictures are named with ``--art`` (a weave, a line sketch). Scores compare with that one picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.console import Console
from client.parser import Parser
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import find_pictures, load_picture, save_picture, to_uint8
from shared_model.stylize import Options
from simulations.painters import Style
from simulations.pictures import default_photos
from simulations.studies import study_parser
from simulations.studies.pairs import Pair, PictureIndex
from simulations.studies.quality import compare, summarize_hands
from simulations.studies.scoring import Job, Row, Workplace, run_jobs
from simulations.studies.sheets import SheetRow, write_sheets
from simulations.studies.transfer import builtin_pictures

__all__ = ["MANNERS", "Domain", "domains", "parser", "run", "to_markdown"]

#: Easel's own painters: manner to (style, near to what a backbone was trained on?).
MANNERS = {
    "oil": (Style("oil", stroke=1.4, seed=3), True),
    "impressionist": (Style("impressionist", stroke=1.4, seed=2), True),
    "line drawing": (Style("sketch", stroke=1.4, seed=4), False),
    "red chalk": (Style("chalk", palette="earth", stroke=1.4, seed=5), False),
    "woodcut": (Style("woodcut", palette="earth", stroke=1.4, seed=6), False),
    "mosaic": (Style("mosaic", stroke=1.4, seed=7), False),
}
_PARTS = ("headline", "content", "texture", "joint", "color", "checker_db")


@dataclass(frozen=True)
class Domain:
    """One manner.

    Parameters
    ----------
    name
        For tables.
    near
        Like the paintings that backbones are trained on.
    picture
        The one that the head is fitted on.
    """

    name: str
    near: bool
    picture: Path


def domains(folder: Path, *, manners: Sequence[str], art: str | None, names: Sequence[str]) -> list[Domain]:
    """Return the manners; own painters' pictures are painted into ``folder`` if not there.

    Raises
    ------
    InputError
        If a manner or a picture does not exist, or names come without a folder.
    """
    made = []
    for manner in manners:
        if manner not in MANNERS:
            raise InputError(f"there is no manner {manner!r}", hint=f"choose from {', '.join(MANNERS)}")
        style, near = MANNERS[manner]
        file = folder / f"{manner.replace(' ', '-')}.png"
        if not file.is_file():
            save_picture(file, to_uint8(builtin_pictures(style, 1)[0]))
        made.append(Domain(manner, near, file))
    if names and not art:
        raise InputError("--styles names pictures of --art", hint="add --art DIR")
    index = PictureIndex(art) if art and names else None
    return [*made, *(Domain(name, False, index[name]) for name in names if index)]


def _photos(parsed: argparse.Namespace, folder: Path) -> list[Path]:
    if parsed.photos:
        return find_pictures([parsed.photos])[: parsed.count]
    built_in = default_photos()
    files = []
    for name in ("astronaut", "camera", "chelsea")[: parsed.count]:  # no photo that own painters painted
        files.append(save_picture(folder / f"{name}.png", built_in[name]))
    return files


def parser() -> Parser:
    """Return the options of ``easel-sim study fewshot``."""
    made = study_parser(
        "fewshot",
        description="Fit a head on one picture, near to or far from the training art, and compare hands.",
        example="easel-sim study fewshot --backbone new.safetensors --out runs/fewshot \\\n"
        "      --art art --styles weave_black_white line_sketch_piano",
    )
    made.add_argument("--photos", metavar="DIR", help="photos (default: three built-in ones)")
    made.add_argument("--count", type=int, default=4, metavar="N", help="photos to paint (default: %(default)s)")
    made.add_argument("--manners", nargs="*", default=list(MANNERS), metavar="NAME", help="of easel's own painters")
    made.add_argument("--art", metavar="DIR", help="folder of further pictures")
    made.add_argument("--styles", nargs="*", default=[], metavar="NAME", help="pictures of --art, as far manners")
    made.add_argument("--backbone", nargs="+", action="extend", default=[], metavar="[NAME=]FILE", help="backbones")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the study; what is there is used again")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="(default: %(default)s)")
    made.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Fit, paint, score, compare, write."""
    if parsed.count < 1:
        raise InputError("count must be at least 1")
    place = Workplace(Path(parsed.out), tuple(parsed.backbone), False, Options(size_px=512, seed=parsed.seed))
    names = [hand.name for hand in place.hands]
    known = domains(place.folder / "pictures", manners=parsed.manners, art=parsed.art, names=parsed.styles)
    if not known:
        raise InputError("no manner is named", hint="use --manners, or --art with --styles")
    photos = _photos(parsed, place.folder / "photos")
    jobs = [
        Job((domain.picture,), domain.picture, tuple((Pair(p.stem, domain.name), p) for p in photos))
        for domain in known
    ]
    rows = run_jobs(
        place,
        jobs,
        workers=parsed.workers,
        on_row=lambda row: console.note(f"{row['style_image']}, {row['content_image']}, {row['hand']}"),
    )
    text = to_markdown(known, rows, names)
    facts: dict[str, Any] = {"rows": rows, "near": {domain.name: domain.near for domain in known}}
    write_atomic(place.folder / "fewshot.json", json.dumps(facts, indent=1).encode())
    write_atomic(place.folder / "fewshot.md", text.encode())
    sheet = []
    for domain, job in zip(known, jobs, strict=True):
        pair, photo = job.pairs[0]
        painted = [load_picture(place.painting(name, pair)).rgb for name in names]
        pictures = (load_picture(photo).rgb, load_picture(domain.picture).rgb, *painted)
        sheet.append(SheetRow(f"{domain.name} ({'near' if domain.near else 'far'})", pictures))
    write_sheets(place.folder, "sheet", sheet, columns=["photo", "the one picture", *names], tile_px=360)
    for line in text.splitlines():
        console.say(line)
    console.facts(facts)
    return 0


def to_markdown(known: Sequence[Domain], rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return one row per manner and hand, then near and far manners together."""
    lines = ["# One picture, near and far", "", f"| manner | hand | {' | '.join(_PARTS)} |"]
    lines.append("|---" * (len(_PARTS) + 2) + "|")
    for domain in known:
        summary = summarize_hands([row for row in rows if row["style_image"] == domain.name])
        for name in names:
            cells = " | ".join(f"{summary[name]['all'][part].mean:.3f}" for part in _PARTS)
            lines.append(f"| {domain.name} ({'near' if domain.near else 'far'}) | {name} | {cells} |")
    for near in (True, False):
        some = [row for row in rows if row["style_image"] in {d.name for d in known if d.near is near}]
        if not some:
            continue
        summary = summarize_hands(some)
        for name in names:
            cells = " | ".join(str(summary[name]["all"][part]) for part in _PARTS)
            lines.append(f"| all {'near' if near else 'far'} | {name} | {cells} |")
        for name in names[1:]:
            found = compare(some, name, names[0])["all"]
            cells = " | ".join(str(found[part]) for part in _PARTS)
            lines.append(f"| all {'near' if near else 'far'} | {name} - {names[0]} | {cells} |")
    return "\n".join([*lines, "", "Intervals: 95 % bootstrap over pairs of photo and manner.", ""])
