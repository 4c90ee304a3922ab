"""``easel stylize``: photos and videos in, paintings out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console
from shared_model.errors import InputError

if TYPE_CHECKING:
    from client.batch import Painter, Tally
    from client.order import Order
    from client.outputs import Job, Kind, Source
    from client.recipe import Recipe
    from client.store import Home
    from shared_model.backbone import Backbone
    from shared_model.head import Head

__all__ = ["add_arguments", "add_painting_arguments", "make_painter", "run"]

MAX_STDIN_BYTES = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="pictures, videos, folders, patterns, or -")
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="a file (one photo), a folder, or - for stdout; default: <photo>-<head>.png beside the photo. A taken "
        "name gets a number; a finished picture with the same settings is left alone",
    )
    add_painting_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def add_painting_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how to paint; see :func:`make_painter`."""
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--head", metavar="NAME", help="the head to paint with (see: easel heads list)")
    style.add_argument(
        "--style",
        nargs="+",
        action="extend",
        metavar="IMAGE",
        help="paint in the style of these pictures instead; put it after the photos",
    )
    style.add_argument(
        "--mix",
        nargs="+",
        action="extend",
        metavar="NAME=W",
        help="mix heads, such as monet=0.7,sketch=0.3 (or with a space); put it after the photos",
    )
    parser.add_argument("--strength", type=float, metavar="0..1", help="how far to go from the photo (default 1)")
    parser.add_argument(
        "--keep-color", action=argparse.BooleanOptionalAction, help="keep the photo's own colors (default: no)"
    )
    parser.add_argument("--detail", type=float, metavar="0..1", help="how much fine structure to keep (default 0.5)")
    parser.add_argument(
        "--brush", type=float, metavar="0.5..2", help="size of the strokes, times the head's own (default 1)"
    )
    parser.add_argument(
        "--plain", action="store_true", help="paint as the head was made, without what `easel prefer` learned"
    )
    parser.add_argument("--size", type=int, metavar="PX", help="short side of the result (default: the photo's own)")
    parser.add_argument("--seed", type=int, metavar="N", help="another number paints other strokes (default 0)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="how to compute (auto: bf16 where the device has it)",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also write <result>.explain.png: which strokes of which of your pictures were used where, and what the "
        "backbone changed",
    )
    parser.add_argument(
        "--metadata",
        default="safe",
        choices=("none", "safe", "place"),
        help="what a painting keeps of its photo's data: safe (date, camera, author, color profile), place (these and "
        "where it was taken), none",
    )
    parser.add_argument("--replay", metavar="FILE", help="use the settings of a picture that easel painted")


def run(arguments: argparse.Namespace) -> int:
    """Paint; returns 0, or the exit code of the first picture that failed."""
    console = Console(json=arguments.json)
    _check_pipes(arguments)
    made = make_painter(arguments, console)
    if arguments.photos == ["-"]:
        return _paint_pipe(made, arguments, console)
    return _paint_files(made, arguments, console)


def make_painter(arguments: argparse.Namespace, console: Console) -> Painter:
    """Return the painter that :func:`add_painting_arguments` asks for."""
    from client.batch import Painter
    from client.engine import Engine
    from client.explanation import NO_MEMORY
    from client.marks import Marks
    from client.models import backbone_in_use
    from client.store import Home
    from shared_model.stylize import check_match

    home = Home.default()
    replayed = _replayed(arguments.replay) if arguments.replay else None
    order = _order(arguments, home, replayed)
    backbone = backbone_in_use()
    head, recipe = order.load(home) if order.heads else order.prepare(_fit(arguments.style, backbone), [])
    check_match(head, backbone)
    if order.note:
        console.note(order.note)
    if replayed is not None and not recipe.same_painter(replayed):
        console.warn("the head or the backbone has changed since; the picture will look different")
    engine = Engine(backbone, device=arguments.device, precision=arguments.precision)
    if arguments.explain and recipe.mix:
        raise InputError("a mix of heads cannot be explained", hint="explain one head at a time")
    if arguments.explain and head.levels[0].origin is None:
        console.note(f"{NO_MEMORY}; what the backbone changed is shown all the same")
    return Painter(
        engine=engine,
        head=head,
        recipe=recipe,
        explains=arguments.explain,
        metadata=arguments.metadata,
        marks=Marks.of_owner(home.folder),
    )


def _paint_files(painter: Painter, arguments: argparse.Namespace, console: Console) -> int:
    from client.batch import Tally, paint_files
    from client.footage import is_video
    from client.outputs import PICTURES, find_sources
    from client.overlooked import overlooked

    rest = arguments.photos
    moving = any(is_video(name) for name in rest)
    if arguments.out == "-":
        if moving:
            raise InputError("a video cannot go to stdout", hint="give -o a file or a folder")
        return _paint_pipe(painter, arguments, console)
    if arguments.out is not None and is_video(arguments.out) and not moving and not Path(arguments.out).is_dir():
        raise InputError("a photo cannot be saved as a video", hint="give -o a picture's name, such as painted.png")
    tally = Tally()
    if moving:
        rest = _paint_videos(painter, arguments, console, tally)
    if rest:
        for sentence in overlooked(rest):
            console.note(sentence)
        sources, left_out = find_sources(rest)
        if left_out:
            console.note(f"left out {left_out} that easel painted itself; name such a picture to paint it again")
        jobs = _planned(sources, PICTURES, painter, arguments)
        paint_files(jobs, painter=painter, console=console, tally=tally)
    console.facts({"pictures": tally.results, "settings": painter.recipe.to_settings()})
    if len(tally.results) > 1:
        words = [f"{count} {word}" for word in ("painted", "skipped", "failed") if (count := tally.count(word))]
        console.say(", ".join(words))
    return tally.exit_code


def _paint_videos(painter: Painter, arguments: argparse.Namespace, console: Console, tally: Tally) -> list[str]:
    """Paint the videos among the arguments; returns the others."""
    from client.films import FILMS, find_videos, paint_films, with_suffix
    from client.outputs import names_a_file

    videos, rest = find_videos(arguments.photos)
    if not videos:
        return rest
    if painter.explains:
        raise InputError("a video cannot be explained", hint="leave out --explain, or explain one frame of it")
    if rest and arguments.out and names_a_file(arguments.out, kind=FILMS):
        raise InputError("photos and videos cannot all go to one file", hint="give -o a folder, such as -o painted/")
    jobs = _planned([with_suffix(video) for video in videos], FILMS, painter, arguments)
    paint_films(jobs, painter=painter, console=console, tally=tally)
    return rest


def _planned(sources: Sequence[Source], kind: Kind, painter: Painter, arguments: argparse.Namespace) -> list[Job]:
    """Say where the painting of each source goes."""
    from client.outputs import plan

    return plan(
        sources,
        out=arguments.out,
        tag=painter.recipe.head or "styled",
        recipe=painter.recipe,
        overwrite=arguments.overwrite,
        kind=kind,
        marks=painter.marks,
    )


def _paint_pipe(painter: Painter, arguments: argparse.Namespace, console: Console) -> int:
    """Paint one picture from stdin, to stdout, or both."""
    from client.explanation import path_beside, summary
    from shared_model.files import write_atomic
    from shared_model.images import load_picture

    piped = arguments.photos == ["-"]
    picture = load_picture(sys.stdin.buffer.read(MAX_STDIN_BYTES) if piped else Path(arguments.photos[0]).expanduser())
    to_stdout = arguments.out in (None, "-")
    target = Path("stdout.png" if to_stdout else arguments.out).expanduser()
    if not to_stdout and target.exists() and not arguments.overwrite:
        raise InputError(f"{target} is there already", hint="add --overwrite to replace it, or choose another name")
    explained = painter.explanation(picture, target) if painter.explains else None
    data = painter.encode(painter.paint(picture), suffix=target.suffix)
    if to_stdout:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomic(target, data)
        console.say(str(target))
    if explained is not None:
        write_atomic(path_beside(target), explained[0])
        console.say(f"{path_beside(target)}  {summary(explained[1])}")
    return 0


def _check_pipes(arguments: argparse.Namespace) -> None:
    """Refuse what stdin and stdout cannot do, before any work."""
    piped = "-" in arguments.photos
    if piped and len(arguments.photos) > 1:
        raise InputError("- stands for one picture from stdin and cannot go with others", hint="use - alone")
    if arguments.out == "-" and len(arguments.photos) > 1:
        raise InputError("only one picture can go to stdout", hint="give -o a folder")
    if arguments.out == "-" or (piped and arguments.out is None):
        if arguments.explain:
            raise InputError("an explanation goes beside a file, and this picture goes to stdout", hint="add -o FILE")
        if arguments.json:
            raise InputError("the picture and --json cannot both go to stdout", hint="add -o FILE")
        if sys.stdout.isatty():
            raise InputError("a picture cannot be shown in the terminal", hint="add -o FILE, or > FILE")


def _replayed(path: str) -> Recipe:
    """Read the settings out of a picture or a video."""
    from client.footage import is_video
    from client.recipe import Recipe

    if not is_video(path):
        return Recipe.read(path)
    from client.film import read_recipe

    return read_recipe(path)


def _order(arguments: argparse.Namespace, home: Home, replayed: Recipe | None) -> Order:
    """Return what was asked for; its heads are empty where a head is fitted to ``--style``."""
    from client.order import Order, parse_mix

    given = {
        "strength": arguments.strength,
        "keep_color": arguments.keep_color,
        "detail": arguments.detail,
        "size_px": arguments.size,
        "seed": arguments.seed,
        "brush": arguments.brush,
    }
    heads: tuple[tuple[str, float], ...] = ()
    if arguments.mix:
        heads = parse_mix(arguments.mix)
    elif not arguments.style:
        heads = ((arguments.head or _usual_head(home, replayed, arguments.replay), 1.0),)
    if replayed is not None:
        again = Order.again(replayed, given=given)
        return again if not (arguments.mix or arguments.style or arguments.head) else replace(again, heads=heads)
    return Order.of(home, heads, given=given, plain=arguments.plain)


def _usual_head(home: Home, replayed: Recipe | None, path: str) -> str:
    """Return the head of a replayed picture, or the only one of the owner's own."""
    if replayed is not None:
        if replayed.head:
            return replayed.head
        raise InputError(f"{path} was painted with --style", hint="name the same style pictures again with --style")
    heads = home.heads()
    own = [head.name for head in heads if not head.shipped]
    if len(own) == 1:
        return own[0]
    names = ", ".join(head.name for head in heads)
    raise InputError(
        "which style? give --head NAME, --mix NAME=W ... or --style IMAGE ...",
        hint=f"heads: {names}" if names else "make a head with: easel personalize NAME PICTURE ...",
    )


def _fit(style: list[str], backbone: Backbone) -> Head:
    """Fit a head to pictures in memory, about a second."""
    from shared_model.config import HeadConfig
    from shared_model.head import Head
    from shared_model.images import find_pictures, load_tensor

    short_px = HeadConfig().canvas_px
    return Head.fit([load_tensor(path, short_px) for path in find_pictures(style)], backbone=backbone)
