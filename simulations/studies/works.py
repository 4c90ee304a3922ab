"""Zero-shot against fitted: a head that saw more of a painter's pictures, judged on those that it did not see.

For every painter (a folder each) one work after the other is held out. Heads are fitted on one, some or all of the
other works, without tuning and, with ``--budget``, tuned as ``easel personalize`` does. Scores compare with the work
that was held out, so that copying one picture's statistics does not pay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from client.console import Console
from client.parser import Parser
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.head import Head
from shared_model.images import find_pictures, load_picture, resize_short, save_picture, to_tensor, to_uint8
from shared_model.metrics import Painting, photo_distances, score_pair
from shared_model.stylize import Options, stylize
from shared_model.tuning import tune
from shared_model.weights import default_backbone, load_backbone
from simulations.studies import study_parser
from simulations.studies.intervals import Estimate, estimate
from simulations.studies.sheets import SheetRow, write_sheets

__all__ = ["Painter", "Rung", "find_painters", "gains", "parser", "run", "rungs", "to_markdown"]

Row = dict[str, Any]  # painter, held, rung, photo and the numbers of the score

_PARTS = ("headline", "content", "texture", "joint", "color")


@dataclass(frozen=True)
class Painter:
    """A painter's name and works, at least three."""

    name: str
    works: tuple[Path, ...]


@dataclass(frozen=True)
class Rung:
    """One way to make a head: from at most how many pictures, tuned or not."""

    most: int
    tuned: bool = False

    @property
    def name(self) -> str:
        """How tables call it."""
        text = "zero-shot, 1 picture" if self.most == 1 and not self.tuned else f"up to {self.most} pictures"
        return f"{text}, tuned" if self.tuned else text


def find_painters(folder: Path) -> list[Painter]:
    """Return the sub-folders of ``folder`` that hold at least three pictures.

    Raises
    ------
    InputError
        If there is none.
    """
    places = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = [Painter(place.name, tuple(find_pictures([place]))) for place in places]
    some = [painter for painter in found if len(painter.works) >= 3]
    if not some:
        raise InputError(f"{folder} holds no folder of three pictures or more", hint="one folder per painter")
    return some


def rungs(numbers: Sequence[int], *, available: int, tuned: bool) -> list[Rung]:
    """Return the rungs for a painter with ``available`` works to fit on: each once, the largest also tuned."""
    counts = {min(number, available): number for number in sorted({1, *numbers}, reverse=True)}
    found = [Rung(most) for _, most in sorted(counts.items())]
    return [*found, *([Rung(found[-1].most, tuned=True)] if tuned else [])]


def parser() -> Parser:
    """Return the options of ``easel-sim study works``."""
    made = study_parser(
        "works",
        description="Fit heads on one, some and all of a painter's works but one, and compare with that one.",
        example="easel-sim study works --painters painters --photos photos/val --out runs/works",
    )
    made.add_argument("--painters", required=True, metavar="DIR", help="one folder of pictures per painter")
    made.add_argument("--photos", required=True, metavar="DIR", help="photos to paint")
    made.add_argument("--count", type=int, default=2, metavar="N", help="photos per held-out work (default: 2)")
    made.add_argument("--held", type=int, default=2, metavar="N", help="works held out in turn (default: 2)")
    made.add_argument("--images", type=int, nargs="+", default=[4, 10], metavar="N", help="(default: 4 10)")
    made.add_argument("--budget", type=float, default=0.0, metavar="SECONDS", help="also tune (default: 0, not)")
    made.add_argument("--backbone", metavar="FILE", help="(default: the shipped one)")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the study")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Fit, paint, score, compare, write."""
    if min(parsed.count, parsed.held, *parsed.images) < 1 or parsed.budget < 0:
        raise InputError("--count, --held and --images must be at least 1, and --budget at least 0")
    painters = find_painters(Path(parsed.painters).expanduser())
    photos = find_pictures([parsed.photos])
    backbone = load_backbone(Path(parsed.backbone)) if parsed.backbone else default_backbone()
    folder = Path(parsed.out)
    rows: list[Row] = []
    for number, painter in enumerate(painters):
        for held in range(min(parsed.held, len(painter.works))):
            start = (number + held * parsed.count) % len(photos)
            some = [photos[(start + step) % len(photos)] for step in range(parsed.count)]
            for row in _climb(painter, held, some, backbone, parsed, folder=folder):
                console.note(f"{row['painter']}, {row['held']}, {row['rung']}: {row['headline']:.3f}")
                rows.append(row)
    text = to_markdown(rows)
    facts = {"rows": rows, "gains": {name: asdict(found) for name, found in gains(rows, "headline").items()}}
    write_atomic(folder / "works.json", json.dumps(facts, indent=1).encode())
    write_atomic(folder / "works.md", text.encode())
    _write_sheet(folder, painters, rows, photos)
    for line in text.splitlines():
        console.say(line)
    console.facts(facts)
    return 0


def _climb(
    painter: Painter,
    held: int,
    photos: Sequence[Path],
    backbone: Backbone,
    parsed: argparse.Namespace,
    *,
    folder: Path,
) -> Iterator[Row]:
    """Paint and score every rung for one held-out work."""
    own = [to_tensor(load_picture(path).rgb) for index, path in enumerate(painter.works) if index != held]
    reference = Painting.of(load_picture(painter.works[held]).rgb)
    before: dict[Path, Any] = {}
    for rung in rungs(parsed.images, available=len(own), tuned=parsed.budget > 0):
        head = _head(own[: rung.most], backbone, budget_s=parsed.budget if rung.tuned else 0.0)
        for photo in photos:
            rgb = load_picture(photo).rgb
            painted = to_uint8(stylize(to_tensor(rgb), head=head, backbone=backbone, options=Options(size_px=512)))
            if photo not in before:
                before[photo] = photo_distances(rgb, reference, like=painted)
            save_picture(_picture(folder, painter.name, held, rung.name, photo), painted)
            score = score_pair(painted, rgb, reference, before=before[photo])
            facts = {"painter": painter.name, "held": held, "rung": rung.name, "photo": photo.stem}
            yield facts | {part: float(score[part]) for part in (*_PARTS, "checker_db")}


def _head(pictures: Sequence[Tensor], backbone: Backbone, *, budget_s: float) -> Head:
    head = Head.fit(pictures)
    head = head.attuned(backbone, [resize_short(picture, head.config.canvas_px) for picture in pictures])
    return tune(head, pictures, backbone=backbone, budget_s=budget_s) if budget_s > 0 else head


def _picture(folder: Path, painter: str, held: int, rung: str, photo: Path) -> Path:
    return folder / "paintings" / f"{painter}-{held}-{rung.replace(', ', '-').replace(' ', '-')}-{photo.stem}.png"


def gains(rows: Sequence[Row], part: str) -> dict[str, Estimate]:
    """Return, per rung but the first, how much higher ``part`` is than zero-shot for the same photo and work."""
    table: dict[tuple[str, int, str], dict[str, float]] = {}
    for row in rows:
        table.setdefault((row["painter"], row["held"], row["photo"]), {})[row["rung"]] = row[part]
    first = rows[0]["rung"]
    names = dict.fromkeys(row["rung"] for row in rows if row["rung"] != first)
    found = {}
    for name in names:
        both = {key: cells[name] - cells[first] for key, cells in table.items() if name in cells}
        found[name] = estimate(list(both.values()), [painter for painter, _, _ in both])
    return found


def to_markdown(rows: Sequence[Row]) -> str:
    """Return means per rung, and paired gains over zero-shot with two intervals."""
    lines = ["# More of a painter's pictures", "", "Compared with works that no head has seen.", ""]
    lines += [f"| head from | n | {' | '.join(_PARTS)} |", "|---" * (len(_PARTS) + 2) + "|"]
    for rung in dict.fromkeys(row["rung"] for row in rows):
        some = [row for row in rows if row["rung"] == rung]
        cells = " | ".join(f"{sum(row[part] for row in some) / len(some):.3f}" for part in _PARTS)
        lines.append(f"| {rung} | {len(some)} | {cells} |")
    lines += ["", f"| minus zero-shot, the same photo and work | n | {' | '.join(_PARTS)} |"]
    lines.append("|---" * (len(_PARTS) + 2) + "|")
    columns = {part: gains(rows, part) for part in _PARTS}
    for rung, first in columns[_PARTS[0]].items():
        cells = " | ".join(
            f"{e.mean:+.3f} [{e.group_low:+.3f}, {e.group_high:+.3f}] {e.positive}/{e.count}"
            for e in (columns[part][rung] for part in _PARTS)
        )
        lines.append(f"| {rung} | {first.count} | {cells} |")
    return "\n".join([*lines, "", "Intervals: 95 % bootstrap over painters.", ""])


def _write_sheet(folder: Path, painters: Sequence[Painter], rows: Sequence[Row], photos: Sequence[Path]) -> None:
    """One row per painter: the photo, the held-out work, and every rung."""
    names = list(dict.fromkeys(row["rung"] for row in rows))
    sheet = []
    for painter in painters:
        some = [row for row in rows if row["painter"] == painter.name and row["held"] == 0]
        photo = next(path for path in photos if path.stem == some[0]["photo"])
        painted = [_picture(folder, painter.name, 0, name, photo) for name in names]
        shown = [load_picture(path).rgb for path in painted if path.is_file()]
        blank = [load_picture(photo).rgb * 0 + 255] * (len(names) - len(shown))
        held = load_picture(painter.works[0]).rgb
        sheet.append(SheetRow(painter.name, (load_picture(photo).rgb, held, *shown, *blank)))
    write_sheets(folder, "sheet", sheet, columns=["photo", "held out", *names], tile_px=320)
