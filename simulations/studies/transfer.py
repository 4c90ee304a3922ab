"""Transfer learning on a device: quality against what is tuned and how many pictures there are.

For one manner of painting, a head is fitted on 1, 4 or 10 pictures; then nothing, the modulation
numbers, those and low-rank adapters, or those and the whole generator are tuned, all with the same
loop, steps and records. Photos to tune on, to choose the best step on (validation) and to test on are
disjoint. Scores compare with the first picture that was fitted on ("own": what was asked for), and with
pictures by the same painter that nothing was fitted on ("other"; of those, texture and joint
statistics say something, colors may belong to another subject).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from client.console import Console
from client.parser import Parser
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head
from shared_model.images import find_pictures, load_tensor, save_picture, to_tensor, to_uint8
from shared_model.metrics import Distances, Painting, photo_distances, score_pair
from shared_model.stylize import Options, stylize
from shared_model.weights import backbone_id, default_backbone_path, load_backbone
from simulations.painters import Style
from simulations.pictures import crops, default_photos
from simulations.studies import study_parser
from simulations.studies.adapters import LEVELS, Tuned, adapt
from simulations.studies.intervals import Estimate, estimate
from simulations.studies.plots import Line, write_plot
from simulations.studies.sheets import SheetRow, write_sheets

__all__ = ["builtin_pictures", "parser", "run", "to_markdown"]

_PARTS = ("headline", "content", "texture", "joint")


def builtin_pictures(style: Style, count: int, *, size_px: int = 512) -> list[Tensor]:
    """Return square pictures by one of easel's own painters: parts of built-in photos, painted."""
    photos = default_photos()
    models = [photos[name] for name in ("coffee", "rocket", "motorcycle_right")]  # no photo that is painted later
    each = -(-count // len(models))
    parts = [crops(photo, each, size=size_px, seed=index) for index, photo in enumerate(models)]
    chosen = [parts[index % len(models)][index // len(models)] for index in range(count)]
    return [to_tensor(style.paint(part)) for part in chosen]


def _photos(parsed: argparse.Namespace) -> dict[str, list[Tensor]]:
    """Return photos to tune on, to choose on and to test on: no photo, nor a part of it, is in two of them."""
    if not parsed.photos:
        built_in = default_photos()
        kinds = (("tuning", "chelsea", 4), ("validation", "camera", 2), ("test", "astronaut", 4))
        return {kind: [to_tensor(p) for p in crops(built_in[name], n, size=320)] for kind, name, n in kinds}
    files = find_pictures([parsed.photos])
    if len(files) < 3:
        raise InputError(f"{parsed.photos} holds {len(files)} photos, too few for three splits")
    random.Random(parsed.seed).shuffle(files)
    share = min(4, len(files) // 3)
    parts = {kind: files[share * n : share * (n + 1)] for n, kind in enumerate(("tuning", "validation", "test"))}
    return {kind: [load_tensor(file) for file in some] for kind, some in parts.items()}


def _pictures(parsed: argparse.Namespace) -> dict[str, list[Tensor]]:
    """Return the pictures of every manner: those to fit on, the references last."""
    needed = max(parsed.images) + parsed.references
    if parsed.pictures:
        files = find_pictures([parsed.pictures])
        if len(files) < min(parsed.images) + parsed.references:
            raise InputError(f"{parsed.pictures} holds {len(files)} pictures, too few", hint="lower --images")
        random.Random(parsed.seed).shuffle(files)
        return {Path(parsed.pictures).name: [load_tensor(path) for path in files[-needed:]]}
    return {
        manner: builtin_pictures(Style(manner, palette="dusk", stroke=1.4, seed=parsed.seed + 1), needed)
        for manner in parsed.manners
    }


class _Scale:
    """Scores photos painted by many hands against the same references."""

    def __init__(self, photos: Sequence[Tensor], references: Sequence[Painting]) -> None:
        self.photos, self.references = photos, references
        self._before: dict[tuple[int, int], Distances] = {}

    def scores(self, tuned: Tuned, keep: Path | None = None) -> list[dict[str, float]]:
        """Paint every photo, score it against every reference; pictures go to ``keep-N.png``."""
        rows = []
        for number, photo in enumerate(self.photos):
            painted = to_uint8(stylize(photo, head=tuned.head, backbone=tuned.backbone, options=Options(size_px=512)))
            if keep is not None:
                save_picture(keep.with_name(f"{keep.name}-{number}.png"), painted)
            original = to_uint8(photo)
            for index, painting in enumerate(self.references):
                place = number, index
                if place not in self._before:
                    self._before[place] = photo_distances(original, painting, like=painted)
                score = score_pair(painted, original, painting, before=self._before[place])
                rows.append(score | {"other": float(index > 0)})
        return rows


def parser() -> Parser:
    """Return the options of ``easel-sim study transfer``."""
    made = study_parser(
        "transfer",
        description="Tune nothing, modulation numbers, low-rank adapters or the whole generator on 1, 4 and 10 "
        "pictures, and score what is painted. Without --pictures, easel's own "
        "painters paint scikit-image's photos.",
        example="easel-sim study transfer --out runs/transfer",
    )
    made.add_argument("--pictures", metavar="DIR", help="pictures by one painter (default: easel's own painters)")
    made.add_argument("--photos", metavar="DIR", help="photos, split in three (default: parts of built-in ones)")
    made.add_argument("--manners", nargs="+", default=["impressionist", "sketch"], metavar="NAME", help="own painters")
    made.add_argument("--backbone", metavar="FILE", help="(default: the one that easel ships)")
    made.add_argument("--out", required=True, metavar="DIR", help="folder of the study; finished cells are kept")
    made.add_argument("--images", nargs="+", type=int, default=[1, 4, 10], metavar="N", help="pictures to fit on")
    made.add_argument("--references", type=int, default=2, metavar="N", help="pictures kept for the score")
    made.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS), help="what is tuned")
    made.add_argument("--steps", type=int, default=40, metavar="N", help="of every tuning (default: %(default)s)")
    made.add_argument("--rank", type=int, default=4, metavar="R", help="of the adapters (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="(default: %(default)s)")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Fit, tune, score, compare, write."""
    if min(*parsed.images, parsed.references, parsed.steps, parsed.rank) < 1:
        raise InputError("images, references, steps and rank must be at least 1")
    file = Path(parsed.backbone) if parsed.backbone else default_backbone_path()
    backbone, folder = load_backbone(file), Path(parsed.out)
    photos = _photos(parsed)
    cells: list[dict[str, Any]] = []
    for manner, pictures in _pictures(parsed).items():
        references = pictures[-parsed.references :]
        analyzed = [Painting.of(to_uint8(reference)) for reference in (pictures[0], *references)]
        scales = {part: _Scale(photos[part], analyzed) for part in ("validation", "test")}
        save_picture(folder / "painted" / f"{manner}-reference.png", to_uint8(references[0]))
        for count in sorted({min(count, len(pictures) - parsed.references) for count in parsed.images}):
            styles = pictures[:count]
            head: Head | None = None
            for level in LEVELS:
                if level not in parsed.levels:
                    continue
                path = folder / "cells" / f"{manner}-{count}-{level}.json"
                used = [*styles, *references, *(photo for some in photos.values() for photo in some)]
                key = _key(parsed, backbone, used, level)
                cell = json.loads(read_bytes(path)) if path.is_file() else {}
                if cell.get("key") != key:
                    head = head or Head.fit(styles, backbone=backbone, seed=parsed.seed)
                    tuned = adapt(
                        head,
                        styles,
                        backbone=backbone,
                        photos=photos["tuning"],
                        validation=photos["validation"],
                        level=level,
                        steps=parsed.steps,
                        rank=parsed.rank,
                        seed=parsed.seed,
                    )
                    cell = {"key": key, "manner": manner, "images": count, "level": level}
                    cell |= {"parameters": tuned.parameters, "loss_before": tuned.before, "loss_after": tuned.after}
                    cell["validation"] = scales["validation"].scores(tuned)
                    keep = folder / "painted" / f"{manner}-{count}-{level}"
                    cell["test"] = scales["test"].scores(tuned, keep)
                    write_atomic(path, json.dumps(cell).encode())
                cells.append(cell)
                headline = _estimates([cell], "test", "headline")
                console.note(f"{manner}, {count} pictures, {level}: headline {headline}")
    text = to_markdown(cells)
    write_atomic(folder / "transfer.json", json.dumps(cells, indent=1).encode())
    write_atomic(folder / "transfer.md", text.encode())
    _draw(folder, cells, photos["test"])
    for line in text.splitlines():
        console.say(line)
    console.facts(cells)
    return 0


def _key(parsed: argparse.Namespace, backbone: Backbone, pictures: Sequence[Tensor], level: str) -> str:
    hashed = hashlib.sha256(f"{backbone_id(backbone)} {level} {parsed.steps} {parsed.rank} {parsed.seed}".encode())
    for picture in pictures:
        hashed.update(to_uint8(picture).tobytes())
    return hashed.hexdigest()[:24]


def _values(cell: dict[str, Any], part: str, key: str, other: bool) -> list[float]:
    return [row[key] for row in cell[part] if bool(row["other"]) == other]


def _estimates(cells: Sequence[dict[str, Any]], part: str, key: str, *, other: bool = False) -> Estimate:
    return estimate([value for cell in cells for value in _values(cell, part, key, other)])


def _gain(
    cells: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], part: str, key: str, *, other: bool = False
) -> str:
    """Return the paired difference to the untuned head on the same photos."""
    pairs = [
        a - b
        for cell, plain in zip(cells, base, strict=True)
        for a, b in zip(_values(cell, part, key, other), _values(plain, part, key, other), strict=True)
    ]
    return str(estimate(pairs))


def to_markdown(cells: Sequence[dict[str, Any]]) -> str:
    """Return the table: a row for each number of pictures and level, all manners together."""
    head = ["pictures", "tuned", "numbers", "validation loss", *(f"test {part}" for part in _PARTS)]
    head += ["texture to other pictures", "joint to other pictures"]
    head += ["headline against nothing tuned: validation", "test", "texture to other pictures: test"]
    lines = ["# Transfer learning", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for count in dict.fromkeys(cell["images"] for cell in cells):
        base = [cell for cell in cells if cell["images"] == count and cell["level"] == "nothing"]
        for level in dict.fromkeys(cell["level"] for cell in cells):
            some = [cell for cell in cells if cell["images"] == count and cell["level"] == level]
            losses = [sum(cell[key] for cell in some) / len(some) for key in ("loss_before", "loss_after")]
            row = [str(count), level, f"{some[0]['parameters']:,}", f"{losses[0]:.3f} to {losses[1]:.3f}"]
            row += [str(_estimates(some, "test", part)) for part in _PARTS]
            row += [str(_estimates(some, "test", part, other=True)) for part in ("texture", "joint")]
            if base and level != "nothing":
                row += [_gain(some, base, part, "headline") for part in ("validation", "test")]
                row.append(_gain(some, base, "test", "texture", other=True))
            lines.append(f"| {' | '.join([*row, *[''] * (len(head) - len(row))])} |")
    manners = ", ".join(dict.fromkeys(cell["manner"] for cell in cells))
    return "\n".join([*lines, "", f"Manners: {manners}. Intervals: 95 % bootstrap over photo and reference.", ""])


def _draw(folder: Path, cells: Sequence[dict[str, Any]], photos: Sequence[Tensor]) -> None:
    """Plot headline against tuned numbers, and show the first test photo for every cell."""
    lines = []
    for count in dict.fromkeys(cell["images"] for cell in cells):
        levels = dict.fromkeys(cell["level"] for cell in cells)
        grouped = [[c for c in cells if c["images"] == count and c["level"] == level] for level in levels]
        found = [(float(some[0]["parameters"]), _estimates(some, "test", "headline")) for some in grouped]
        points = tuple((x, e.mean) for x, e in found)
        lines.append(Line(f"{count} pictures", points, tuple((e.low, e.high) for _, e in found)))
    write_plot(
        folder / "transfer.png",
        lines,
        title="Headline on test photos against tuned numbers",
        x_name="tuned numbers (0 is drawn at 1)",
        y_name="headline",
        log_x=True,
    )
    rows = []
    names = list(dict.fromkeys(str(cell["level"]) for cell in cells))
    for manner, count in dict.fromkeys((cell["manner"], cell["images"]) for cell in cells):
        files = [folder / "painted" / f"{manner}-{count}-{level}-0.png" for level in names]
        reference = load_tensor(folder / "painted" / f"{manner}-reference.png")
        pictures = [to_uint8(photos[0]), to_uint8(reference), *(to_uint8(load_tensor(file)) for file in files)]
        rows.append(SheetRow(f"{manner}, {count} pictures", tuple(pictures)))
    write_sheets(folder, "sheet", rows, columns=["photo", "another picture", *names], tile_px=320)
