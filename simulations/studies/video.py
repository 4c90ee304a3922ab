"""The study ``video``: real clips through ``easel stylize``: how steady, how fast.

A clip whose motion is known (:mod:`simulations.studies.clips`) is coded as H.264 with sensor noise in it, painted to
a file as the command line does, and both files are decoded again: what is compared is what a person would see.
Flicker is the difference of a frame to the one before carried along the known motion.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from client.batch import Painter
from client.console import Console
from client.engine import Engine
from client.film import paint_film
from client.footage import TICKS, open_footage
from client.outputs import Job
from client.parser import Parser
from client.recipe import Recipe
from client.reel import join, segment
from client.sheet import Tile, contact_sheet
from client.store import Home
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import encode_picture, resize_short, to_tensor, to_uint8
from shared_model.stylize import Options
from shared_model.weights import default_backbone
from simulations.pictures import default_photos, wall
from simulations.studies import study_parser
from simulations.studies.clips import KINDS, Clip, flicker, make_clip

__all__ = ["decoded", "encode_clip", "measure", "parser", "run"]

GOAL = 1.2  # painted flicker over the source's own
WALL = "wall"  # several photos side by side, for frames larger than any of them
_SHARP = 1.5  # a photo enlarged by more than this flickers less than footage of its size would
_SOURCE = {"tune": "psnr", "preset": "veryfast", "bf": "0", "crf": "14"}  # whatever easel codes its own files with


def parser() -> Parser:
    """Return the options of the study."""
    made = study_parser(
        "video",
        description="Paint coded clips whose motion is known; report flicker against the clip's own, and frames/s.",
        example="easel-sim study video --px 512 --frames 24 --out runs/video",
    )
    made.add_argument("--out", default="runs/video", metavar="DIR", help="where figures and a sheet go")
    made.add_argument("--heads", nargs="+", default=["oil", "sketch"], metavar="NAME", help="heads")
    made.add_argument("--kinds", nargs="+", default=["subpixel"], choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    made.add_argument("--photo", default="astronaut", metavar="NAME", help=f"one of scikit-image's, or {WALL}")
    made.add_argument("--px", type=int, nargs="+", default=[256], metavar="PX", help="sides of a frame")
    made.add_argument("--frames", type=int, default=24, metavar="N", help="frames of a clip (default 24)")
    made.add_argument("--precision", default="auto", metavar="NAME", help="how to compute (default auto)")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Measure every clip, print a table, write ``video.json`` and ``video.png``; returns the exit code."""
    if not (64 <= min(parsed.px) and max(parsed.px) <= 2160 and 2 <= parsed.frames <= 1000):
        raise InputError("--px must be 64 to 2160, --frames 2 to 1000")
    photos = default_photos() | {WALL: wall()}
    if parsed.photo not in photos:
        raise InputError(f"no photo called {parsed.photo!r}", hint=f"there are {', '.join(photos)}")
    rows, tiles = [], []
    for px in parsed.px:
        needed = px + 4 * parsed.frames + 4
        if min(photos[parsed.photo].shape[:2]) < needed / _SHARP:
            console.note(f"{parsed.photo} is enlarged for {px} px, so the source has little detail; see --photo {WALL}")
        photo = resize_short(to_tensor(photos[parsed.photo]), needed)
        for kind in parsed.kinds:
            clip = make_clip(photo, kind, frames=parsed.frames, size_px=px)
            for name in parsed.heads:
                row, shown = measure(clip, _painter(name, parsed.precision), console=console)
                rows.append({"head": name, "kind": kind, "px": px} | row)
                tiles.append([Tile(to_uint8(x), f"{name}, {kind}, {word}") for x, word in shown])
                console.note(json.dumps(rows[-1]))
    out = Path(parsed.out)
    write_atomic(out / "video.json", json.dumps(rows, indent=2).encode())
    write_atomic(out / "video.png", encode_picture(contact_sheet(tiles, tile_px=360), suffix=".png"))
    console.table([[str(row[key]) for key in _COLUMNS] for row in rows], header=[column.upper() for column in _COLUMNS])
    console.facts(rows)
    return 0


def measure(clip: Clip, painter: Painter, *, console: Console) -> tuple[dict[str, float], list[tuple[Tensor, str]]]:
    """Code, paint and decode one clip.

    Returns
    -------
    tuple
        ``own`` and ``painted`` flicker in [0, 1], their ``ratio``, ``frames_per_cpu_s``; and frames to look at.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = encode_clip(clip.frames, Path(folder, "clip.mkv"))
        target = Path(folder, "painted.mp4")
        began = time.process_time()
        paint_film(Job(source, target), painter=painter, console=console)
        spent = time.process_time() - began
        before, after = decoded(source), decoded(target)
    own, painted = flicker(before, clip.motions), flicker(after, clip.motions)
    found = {
        "own": round(own, 5),
        "painted": round(painted, 5),
        "ratio": round(painted / own, 3),
        "frames_per_cpu_s": round(len(after) / spent, 3),
    }
    last = len(after) - 1
    shown = [(before[0], "source"), (after[0], "frame 1"), (after[last // 2], f"frame {last // 2 + 1}")]
    return found, [*shown, (after[last], f"frame {last + 1}")]


def encode_clip(frames: Sequence[Tensor], path: Path) -> Path:
    """Write frames as H.264 in Matroska, 25 a second."""
    size = (frames[0].shape[2], frames[0].shape[3])
    part = path.with_suffix(".nut")
    with segment(part, size=size, rate=Fraction(25), h264=_SOURCE) as write:
        for number, frame in enumerate(frames):
            write(to_uint8(frame), number * TICKS // 25)
    join([part], path, source=None, scratch=path.with_suffix(".part"), settings={})
    return path


def decoded(path: Path) -> list[Tensor]:
    """Read a video back: frames ``(1, 3, H, W) float in [0, 1]``."""
    with open_footage(path) as footage:
        return [to_tensor(shot.rgb) for shot in footage.shots()]


def _painter(name: str, precision: str) -> Painter:
    head = Home.default().load_head(name)
    engine = Engine(default_backbone(), device="cpu", precision=precision)
    return Painter(engine=engine, head=head, recipe=Recipe.of(head, name=name, options=Options()))


_COLUMNS = ("head", "kind", "px", "own", "painted", "ratio", "frames_per_cpu_s")
