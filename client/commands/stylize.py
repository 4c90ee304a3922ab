"""``easel stylize``: photos in, paintings out."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from client.console import Console
from shared_model.errors import InputError

if TYPE_CHECKING:
    from client.batch import Painter
    from client.recipe import Recipe
    from client.store import Home
    from shared_model.backbone import Backbone
    from shared_model.head import Head
    from shared_model.stylize import Options

__all__ = ["add_arguments", "run"]

MAX_STDIN_BYTES = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="pictures, folders, patterns, or - for stdin")
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="a file (one photo), a folder, or - for stdout; default: <photo>-<head>.png beside the photo. A taken "
        "name gets a number; a finished picture with the same settings is left alone",
    )
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--head", metavar="NAME", help="the head to paint with (see: easel heads list)")
    style.add_argument(
        "--style",
        nargs="+",
        metavar="IMAGE",
        help="paint in the style of these pictures instead; put it after the photos",
    )
    parser.add_argument("--strength", type=float, metavar="0..1", help="how far to go from the photo (default 1)")
    parser.add_argument(
        "--keep-color", action=argparse.BooleanOptionalAction, help="keep the photo's own colors (default: no)"
    )
    parser.add_argument("--detail", type=float, metavar="0..1", help="how much fine structure to keep (default 0.5)")
    parser.add_argument("--size", type=int, metavar="PX", help="short side of the result (default: the photo's own)")
    parser.add_argument("--seed", type=int, metavar="N", help="another number paints other strokes (default 0)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="how to compute (auto: fp32)"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also write <result>.explain.png: which strokes of which of your pictures were used where, and what the "
        "backbone changed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    parser.add_argument("--replay", metavar="FILE", help="use the settings of a picture that easel painted")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Paint; returns 0, or the exit code of the first picture that failed."""
    from client.batch import Painter
    from client.engine import Engine
    from client.explanation import NO_MEMORY
    from client.models import backbone_in_use
    from client.recipe import Recipe
    from client.store import Home
    from shared_model.stylize import check_match

    console = Console(json=arguments.json)
    _check_pipes(arguments)
    home = Home.default()
    replayed = Recipe.read(arguments.replay) if arguments.replay else None
    name = _head_name(arguments, home, replayed)
    options = _options(arguments, replayed)
    backbone = backbone_in_use()
    head = home.load_head(name) if name else _fit(arguments.style, backbone)
    check_match(replace(head, name=name), backbone)
    recipe = Recipe.of(head, name=name, options=options)
    if replayed is not None and not recipe.same_painter(replayed):
        console.warn("the head or the backbone has changed since; the picture will look different")
    engine = Engine(backbone, device=arguments.device, precision=arguments.precision)
    painter = Painter(engine=engine, head=head, recipe=recipe, explains=arguments.explain)
    if arguments.explain and head.levels[0].origin is None:
        console.note(f"{NO_MEMORY}; what the backbone changed is shown all the same")
    if arguments.photos == ["-"]:
        return _paint_pipe(painter, arguments, console)
    return _paint_files(painter, arguments, console)


def _paint_files(painter: Painter, arguments: argparse.Namespace, console: Console) -> int:
    from client.batch import paint_files
    from client.outputs import find_sources, plan

    if arguments.out == "-":
        return _paint_pipe(painter, arguments, console)
    sources, left_out = find_sources(arguments.photos)
    if left_out:
        console.note(f"left out {left_out} that easel painted itself; name such a picture to paint it again")
    tag = painter.recipe.head or "styled"
    jobs = plan(sources, out=arguments.out, tag=tag, recipe=painter.recipe, overwrite=arguments.overwrite)
    tally = paint_files(jobs, painter=painter, console=console)
    console.facts({"pictures": tally.results, "settings": painter.recipe.to_settings()})
    if len(jobs) > 1:
        words = [f"{count} {word}" for word in ("painted", "skipped", "failed") if (count := tally.count(word))]
        console.say(", ".join(words))
    return tally.exit_code


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


def _head_name(arguments: argparse.Namespace, home: Home, replayed: Recipe | None) -> str:
    """Return the head to paint with, or an empty text to fit one to ``--style``."""
    if arguments.style:
        return ""
    if arguments.head:
        return str(arguments.head)
    if replayed is not None:
        if replayed.head:
            return replayed.head
        raise InputError(
            f"{arguments.replay} was painted with --style", hint="name the same style pictures again with --style"
        )
    heads = home.heads()
    own = [head.name for head in heads if not head.shipped]
    if len(own) == 1:
        return own[0]
    names = ", ".join(head.name for head in heads)
    raise InputError(
        "which style? give --head NAME or --style IMAGE ...",
        hint=f"heads: {names}" if names else "make a head with: easel personalize NAME PICTURE ...",
    )


def _options(arguments: argparse.Namespace, replayed: Recipe | None) -> Options:
    """Return the replayed or default options with those given on the command line put over them."""
    from shared_model.stylize import Options

    base = Options() if replayed is None else replayed.options
    given = {
        "strength": arguments.strength,
        "keep_color": arguments.keep_color,
        "detail": arguments.detail,
        "size_px": arguments.size,
        "seed": arguments.seed,
    }
    return replace(base, **{key: value for key, value in given.items() if value is not None})


def _fit(style: list[str], backbone: Backbone) -> Head:
    """Fit a head to pictures in memory, about a second."""
    from shared_model.config import HeadConfig
    from shared_model.head import Head
    from shared_model.images import find_pictures, load_tensor

    short_px = HeadConfig().canvas_px
    return Head.fit([load_tensor(path, short_px) for path in find_pictures(style)], backbone=backbone)
