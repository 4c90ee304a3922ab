"""``easel personalize``: make a head of one's own."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console, format_bytes, format_seconds
from shared_model.errors import Interrupted

if TYPE_CHECKING:
    from torch import Tensor

    from client.personalize import Personalized
    from client.store import HeadFile

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="NAME", help="what to call the head")
    parser.add_argument("pictures", nargs="+", metavar="IMAGE", help="pictures you like: files, folders, patterns")
    parser.add_argument(
        "--budget", type=float, default=20.0, metavar="SECONDS", help="time to spend on tuning (default 20; 0: none)"
    )
    parser.add_argument("--photos", metavar="DIR", help="photos to practise on (default: those that easel has)")
    parser.add_argument(
        "--strokes",
        default="fine",
        choices=("fine", "broad", "flat", "wash"),
        help="marks of a few pixels, close to the photo (fine), brush strokes that show (broad), even areas in "
        "outlines, for cartoons, posters and prints (flat), or transparent washes, for watercolors (wash); drawings "
        "and prints in one ink are hatched by themselves",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="fixes everything random (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace a head of the same name")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Fit, tune, store; returns the exit code."""
    from client.models import backbone_in_use
    from client.personalize import MAX_PHOTOS, MAX_STYLES, Patience, check_budget, personalize, stop_on_interrupt
    from client.store import Home

    console = Console(json=arguments.json)
    home = Home.default()
    check_budget(arguments.budget)
    home.check_free(arguments.name, overwrite=arguments.overwrite)
    home.prepare()
    styles = _load(arguments.pictures, limit=MAX_STYLES, console=console)
    photos = _load([arguments.photos], limit=MAX_PHOTOS, console=console) if arguments.photos else None
    patience = Patience()
    with stop_on_interrupt(patience), console.progress(f"learning {arguments.name}") as advance:
        made = personalize(
            styles,
            backbone=backbone_in_use(),
            name=arguments.name,
            photos=photos,
            budget_s=arguments.budget,
            seed=arguments.seed,
            strokes=arguments.strokes,
            patience=patience,
            progress=lambda fraction, loss: advance(fraction, f"loss {loss:.4f}"),
        )
    saved = home.save_head(made.head, name=arguments.name, overwrite=arguments.overwrite)
    _report(made, saved, console)
    if hidden := home.hidden_by(saved.name):
        console.note(hidden)
    if made.stopped:
        raise Interrupted(
            f"stopped early; the best so far is saved as {saved.name!r}",
            hint="it can be used; for more tuning run the same command with --overwrite",
        )
    return 0


def _load(pictures: Sequence[str], *, limit: int, console: Console) -> list[Tensor]:
    from client.personalize import load_pictures
    from shared_model.images import find_pictures

    paths: list[Path] = find_pictures(pictures)
    if len(paths) > limit:
        console.note(f"{len(paths)} pictures found: using {limit} of them, spread evenly")
    loaded, _ = load_pictures(paths, limit=limit, warn=lambda error: console.warn(error.message, hint=error.hint))
    return loaded


def _report(made: Personalized, saved: HeadFile, console: Console) -> None:
    tuned = math.isfinite(made.before)
    console.facts(
        {
            "name": saved.name,
            "path": str(saved.path),
            "size_bytes": saved.size_bytes,
            "images": made.head.images,
            "backbone": made.head.backbone,
            "loss_before": made.before if tuned else None,
            "loss_after": made.after if tuned else None,
            "seconds": round(made.seconds, 2),
            "stopped": made.stopped,
        }
    )
    pictures = "1 picture" if made.head.images == 1 else f"{made.head.images} pictures"
    console.say(f"head {saved.name!r} made from {pictures} in {format_seconds(made.seconds)}")
    if tuned:
        console.say(f"loss {made.before:.4f} before tuning, {made.after:.4f} after")
        if made.after >= made.before and not made.stopped:
            console.say("tuning found nothing better in its time; a larger --budget gives it more")
    console.say(f"stored {format_bytes(saved.size_bytes)} in {saved.path}, readable by you alone")
    console.say(f"use it with: easel stylize photo.jpg --head {saved.name}")
