"""``easel evaluate``: a head before and after its tuning, in numbers and pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console, format_seconds
from shared_model.errors import InputError, Interrupted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from client.evaluation import Evaluation
    from shared_model.head import Head

__all__ = ["add_arguments", "run"]

FILES = ("pictures.png", "scores.png", "scores.json")
_MEASURES = {
    "headline": "headline (content and style)",
    "content": "content: the photo's structure",
    "style": "style: the painter's",
    "texture": "  texture",
    "joint": "  color with texture",
    "color": "  color",
}
_DISTANCES = {
    "content": "content: the photo's structure",
    "color_distance": "color, distance (0 is best)",
    "contrast_distance": "contrast, distance (0 is best)",
}
_MAX_ART = 8
_SHEET_ROWS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="NAME", help="the head")
    parser.add_argument(
        "--photos", required=True, metavar="DIR", help="photos to judge by; best such that it did not practise on"
    )
    parser.add_argument("--art", metavar="DIR", help="other pictures of the painter, not those the head was made from")
    parser.add_argument("-o", "--out", metavar="DIR", help="where the pictures go (default: NAME-evaluation)")
    parser.add_argument(
        "--budget",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time to spend (default 30)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the strokes (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation that is there already")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, draw; returns the exit code."""
    from client.evaluation import evaluate
    from client.models import backbone_in_use
    from client.personalize import MAX_PHOTOS, Patience, stop_on_interrupt
    from client.store import Home
    from shared_model.stylize import Options

    console = Console(json=arguments.json)
    patience = Patience()
    began = patience.clock()
    head = Home.default().load_head(arguments.name)
    folder = Path(arguments.out or f"{arguments.name}-evaluation").expanduser()
    _check_free(folder, overwrite=arguments.overwrite)
    photos = _load(arguments.photos, limit=MAX_PHOTOS, console=console)
    art = _load(arguments.art, limit=_MAX_ART, console=console) if arguments.art else []
    art, flattered = _leave_out(head, art, console)
    with stop_on_interrupt(patience), console.progress(f"judging {arguments.name}") as advance:
        made = evaluate(
            head,
            photos,
            art,
            backbone=backbone_in_use(),
            options=Options(seed=arguments.seed),
            budget_s=arguments.budget,
            clock=patience,
            progress=advance,
        )
    against = _against(art, flattered)
    facts = _facts(made, head, arguments.name, against=against) | {"seconds": round(patience.clock() - began, 1)}
    _write(made, photos, art, folder, facts)
    _report(made, head, against, console)
    console.say(f"took {format_seconds(patience.clock() - began)}; pictures: {folder / FILES[0]}, {folder / FILES[1]}")
    console.facts(facts | {"files": [str(folder / name) for name in FILES]})
    if patience.stopped:
        raise Interrupted(f"stopped after {len(made.pairs)} of {made.planned} pairs; the figures are of these")
    return 0


def _load(folder: str, *, limit: int, console: Console) -> list[Tensor]:
    from client.personalize import load_pictures
    from shared_model.images import find_pictures

    paths = find_pictures([folder])
    if len(paths) > limit:
        console.note(f"{len(paths)} pictures found in {folder}: using {limit} of them, spread evenly")
    loaded, _ = load_pictures(paths, limit=limit, warn=lambda error: console.warn(error.message, hint=error.hint))
    return loaded


def _leave_out(head: Head, art: list[Tensor], console: Console) -> tuple[list[Tensor], bool]:
    """Drop the pictures that the head was made from, unless nothing else is left: then say what that means."""
    from client.evaluation import unseen

    fresh = unseen(head, art)
    if len(fresh) == len(art):
        return art, False
    if fresh:
        console.note(f"left out {len(art) - len(fresh)} of the pictures: the head was made from them")
        return [art[index] for index in fresh], False
    console.warn(
        "the head was made from all of these pictures, so the style figures flatter it",
        hint="give other pictures of the same painter with --art",
    )
    return art, True


def _against(art: Sequence[Tensor], flattered: bool) -> str:
    if not art:
        return "the head's memory of colors and contrast; strokes can only be judged by other pictures (--art)"
    count = "1 picture" if len(art) == 1 else f"{len(art)} pictures"
    return f"{count} that the head was made from" if flattered else f"{count} that the head has not seen"


def _before(made: Evaluation) -> str:
    return "untuned" if "untuned" in made.ways else "draft"


def _measures(made: Evaluation) -> dict[str, str]:
    return _MEASURES if made.pairs[0].art is not None else _DISTANCES


def _facts(made: Evaluation, head: Head, name: str, *, against: str) -> dict[str, object]:
    def row(measure: str) -> dict[str, object]:
        change = made.change(measure, before=_before(made), after="tuned")
        means = {way: round(made.mean(way, measure), 4) for way in made.ways}
        interval = [round(change.low, 4), round(change.high, 4)] if change.count > 1 else None
        return {**means, "change": round(change.mean, 4), "interval": interval, "clear": change.clear}

    return {
        "head": name,
        "backbone": head.backbone,
        "before": _before(made),
        "judged_against": against,
        "pairs": len(made.pairs),
        "counted": len(made.counted),
        "planned": made.planned,
        "photos": len({pair.photo for pair in made.pairs}),
        "pictures": len({pair.art for pair in made.pairs} - {None}),
        "measures": {measure: row(measure) for measure in _measures(made)},
    }


def _report(made: Evaluation, head: Head, against: str, console: Console) -> None:
    before = _before(made)
    last = "AFTER" if before == "untuned" else "FINISHED"
    titles = {"draft": "HEAD ALONE", "untuned": "BEFORE TUNING", "tuned": last}
    rows = []
    for measure, label in _measures(made).items():
        change = made.change(measure, before=before, after="tuned")
        span = f" [{change.low:+.3f}, {change.high:+.3f}]" if change.count > 1 else ""
        means = [f"{made.mean(way, measure):.3f}" for way in made.ways]
        rows.append([label, *means, f"{change.mean:+.3f}{span}"])
    console.table(rows, header=("", *(titles[way] for way in made.ways), "CHANGE [95 %]"))
    console.say(f"judged against {against}")
    pairs = f"{len(made.pairs)} of {made.planned} pairs"
    pairs += "" if len(made.pairs) == made.planned else " (a larger --budget judges more)"
    if len(made.counted) < len(made.pairs):
        pairs += f"; {len(made.pairs) - len(made.counted)} left out, their photo has the picture's texture already"
    console.say(pairs)
    if len(made.counted) > 1:
        console.say("the intervals are over pairs; they are too narrow where pairs share photos or pictures")
    if before == "draft":
        console.say("the head was not tuned; the change is the backbone's")


def _check_free(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder", hint="name a folder with -o")
    taken = [name for name in FILES if (folder / name).exists()]
    if taken and not overwrite:
        raise InputError(
            f"{folder / taken[0]} is there already",
            hint="add --overwrite to replace it, or use another -o",
        )


def _write(
    made: Evaluation, photos: Sequence[Tensor], art: Sequence[Tensor], folder: Path, facts: dict[str, object]
) -> None:
    from client.sheet import bar_chart
    from shared_model.files import write_atomic
    from shared_model.images import encode_picture

    settings = {"evaluates": facts["head"]}  # so that it is not taken for a photo
    write_atomic(folder / FILES[0], encode_picture(_sheet(made, photos, art), suffix=".png", settings=settings))
    groups = {}
    for measure in _measures(made):
        spans = {way: made.interval(way, measure) for way in made.ways}
        groups[measure.replace("_", " ")] = {way: (span.mean, span.low, span.high) for way, span in spans.items()}
    chart = bar_chart(
        groups, title=f"{facts['head']}: means of {facts['counted']} (of {facts['pairs']}) pairs, 95 % whiskers"
    )
    write_atomic(folder / FILES[1], encode_picture(chart, suffix=".png", settings=settings))
    write_atomic(folder / FILES[2], json.dumps(facts, indent=2).encode())


def _sheet(made: Evaluation, photos: Sequence[Tensor], art: Sequence[Tensor]) -> NDArray[np.uint8]:
    """One row a pair: the photo, the picture it is judged against, then each way of painting with its score."""
    from client.sheet import Tile, contact_sheet
    from shared_model.images import to_uint8

    names = {"draft": "head alone", "untuned": "before tuning", "tuned": "after tuning"}
    if _before(made) == "draft":
        names["tuned"] = "finished by the backbone"
    rows = []
    for pair in made.pairs[:_SHEET_ROWS]:
        row = [Tile(to_uint8(photos[pair.photo]), f"photo {pair.photo + 1}")]
        if pair.art is not None:
            row.append(Tile(to_uint8(art[pair.art]), "a picture of the painter"))
        for way, version in pair.versions.items():
            scores = pair.scores[way]
            best = "headline" if "headline" in scores else "content"
            row.append(Tile(to_uint8(version), f"{names[way]}: {best} {scores[best]:.2f}"))
        rows.append(row)
    return contact_sheet(rows)
