"""The study ``flicker``: how steady a painted clip is, frame by frame and with the blend of shared_model.temporal.

Clips are made from photos, so that the motion between frames is known exactly (:mod:`simulations.studies.clips`);
all frames are painted with one seed. Flicker is the difference between a frame and the one before carried along
the known motion; the photo's own comes from the sensor noise in the clip. The blend estimates the motion
itself, it is never told.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from client.console import Console
from client.parser import Parser
from client.sheet import Tile, contact_sheet, heat
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import encode_picture, find_pictures, load_tensor, resize_short, to_tensor, to_uint8
from shared_model.metrics.content import content_score
from shared_model.pyramid import bands, luminance
from shared_model.stylize import Options
from shared_model.temporal import Blend, State, follow, stabilise, warp
from simulations.studies import study_parser
from simulations.studies.attacks import Target
from simulations.studies.clips import KINDS, Clip, flicker, make_clip
from simulations.studies.robustness import shipped_targets

__all__ = ["Steadiness", "measure", "parser", "run"]


@dataclass(frozen=True)
class Steadiness:
    """How steady one painted clip is.

    Parameters
    ----------
    photo, head, kind
        Names of the photo, the head and the clip.
    keep
        Share that the blend keeps; 0 is frame by frame.
    own
        Flicker of the photo clip, in [0, 1].
    painted
        Flicker of the painted clip.
    sharpness
        Standard deviation of the finest band of the last painted frame over that of the frame painted alone.
    content
        Content score of the last frame.
    """

    photo: str
    head: str
    kind: str
    keep: float
    own: float
    painted: float
    sharpness: float
    content: float

    @property
    def ratio(self) -> float:
        """Painted flicker over the photo's own."""
        return self.painted / max(self.own, 1e-9)


def blended(frames: Sequence[Tensor], painted: Sequence[Tensor], *, keep: float) -> list[Tensor]:
    """Run the blend over a clip."""
    state: State | None = None
    steady = []
    for frame, painting in zip(frames, painted, strict=True):
        result, state = stabilise(state, frame, painting, blend=Blend(keep=keep))
        steady.append(result)
    return steady


def painted_together(frames: Sequence[Tensor], target: Target) -> list[Tensor]:
    """Paint the frames of a clip so that strokes go with the scene; not yet blended."""
    state: State | None = None
    painted = []
    for frame in frames:
        scene = follow(state, frame).scene
        painted.append(target.paint(frame, scene))
        state = State(frame, painted[-1], scene)
    return painted


def measure(clip: Clip, target: Target, *, keeps: Sequence[float], names: tuple[str, str]) -> list[Steadiness]:
    """Measure a clip painted frame by frame (``keep`` 0), and together with every other ``keep``."""
    alone = [target.paint(frame) for frame in clip.frames]
    together = painted_together(clip.frames, target)
    own = flicker(clip.frames, clip.motions)
    rows = []
    for keep in keeps:
        painted = together if keep > 0 else alone
        steady = blended(clip.frames, painted, keep=keep)
        rows.append(
            Steadiness(
                photo=names[0],
                head=names[1],
                kind=clip.kind,
                keep=keep,
                own=own,
                painted=flicker(steady, clip.motions),
                sharpness=float(_fine(steady[-1]) / _fine(painted[-1])),
                content=content_score(clip.frames[-1], steady[-1])["content"],
            )
        )
    return rows


def parser() -> Parser:
    """Return the options of the study."""
    made = study_parser(
        "flicker",
        description="Paint clips whose motion is known and measure how much they flicker, against the photo's own.",
        example="easel-sim study flicker --out runs/flicker",
    )
    made.add_argument("--out", default="runs/flicker", metavar="DIR", help="where the figures go")
    made.add_argument("--photos", default="", metavar="DIR", help="photos (default: two of scikit-image's)")
    made.add_argument("--heads", nargs="+", default=["oil", "sketch"], metavar="NAME", help="heads")
    made.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    made.add_argument(
        "--keep", type=float, nargs="+", default=[0.8, 0.92, 0.95], metavar="SHARE", help="what the blend keeps"
    )
    made.add_argument("--frames", type=int, default=6, metavar="N", help="frames of a clip (default 6)")
    made.add_argument("--px", type=int, default=512, metavar="PX", help="side of a frame (default: the canvas, 512)")
    made.add_argument("--noise", type=float, default=2.0, metavar="LEVELS", help="sensor noise, of 255 (default 2)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="seed of strokes and noise")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Measure every clip, print a table, write ``flicker.json`` and ``flicker.png``; returns the exit code."""
    if not 64 <= parsed.px <= 1024 or not 2 <= parsed.frames <= 100 or not 0 <= parsed.noise <= 50:
        raise InputError("--px must be 64 to 1024, --frames 2 to 100, --noise 0 to 50")
    keeps = [0.0, *(Blend(keep=keep).keep for keep in parsed.keep)]  # checks them
    photos = _photos(parsed.photos, parsed.px + 4 * parsed.frames + 4)
    targets = shipped_targets(parsed.heads, Options(seed=parsed.seed))
    rows: list[Steadiness] = []
    tiles: list[list[Tile]] = []
    jobs = [(photo, head, kind) for head in targets for photo in photos for kind in parsed.kinds]
    with console.progress("painting clips") as advance:
        for number, (photo, head, kind) in enumerate(jobs):
            advance(number / len(jobs), f"{photo}, {head}, {kind}")
            clip = make_clip(
                photos[photo], kind, frames=parsed.frames, size_px=parsed.px, noise=parsed.noise, seed=parsed.seed
            )
            found = measure(clip, targets[head], keeps=keeps, names=(photo, head))
            rows += found
            console.note(f"{photo}, {head}, {kind}: " + ", ".join(f"keep {r.keep:g}: {r.ratio:.2f}" for r in found))
            if kind == "subpixel":
                tiles.append(_row(clip, targets[head], keeps[-1], found))
    facts = {"clips": [asdict(row) | {"ratio": round(row.ratio, 3)} for row in rows], "summary": summary(rows)}
    out = Path(parsed.out)
    write_atomic(out / "flicker.json", json.dumps(facts, indent=2).encode())
    if tiles:
        write_atomic(out / "flicker.png", encode_picture(contact_sheet(tiles, tile_px=300), suffix=".png"))
    _print(rows, console)
    console.facts(facts)
    return 0


def summary(rows: Sequence[Steadiness]) -> dict[str, dict[str, float]]:
    """Return means by kind and keep: ``{"pan, keep 0.9": {...}}``."""
    made: dict[str, dict[str, float]] = {}
    for kind, keep in sorted({(row.kind, row.keep) for row in rows}):
        some = [row for row in rows if (row.kind, row.keep) == (kind, keep)]
        made[f"{kind}, keep {keep:g}"] = {
            name: sum(float(getattr(row, name)) for row in some) / len(some)
            for name in ("own", "painted", "ratio", "sharpness", "content")
        } | {"ratio_most": max(row.ratio for row in some)}
    return made


def _photos(folder: str, short_px: int) -> Mapping[str, Tensor]:
    from simulations.pictures import default_photos

    if folder:
        loaded = {path.stem: load_tensor(path) for path in find_pictures([folder])}
    else:
        built_in = default_photos()
        loaded = {name: to_tensor(built_in[name]) for name in ("astronaut", "coffee")}
    return {name: resize_short(photo, short_px) for name, photo in loaded.items()}


def _fine(picture: Tensor) -> Tensor:
    return bands(luminance(picture), 1)[0].std()


def _row(clip: Clip, target: Target, keep: float, found: Sequence[Steadiness]) -> list[Tile]:
    """Show the last frame: the photo, painted alone, blended, and what flickered in both."""
    painted = [target.paint(frame) for frame in clip.frames]
    steady = blended(clip.frames, painted, keep=keep)
    made = [Tile(to_uint8(clip.frames[-1]), f"{found[0].photo}, {clip.kind}, frame {len(painted)}")]
    for frames, row, word in ((painted, found[0], "alone"), (steady, found[-1], f"keep {keep:g}")):
        made.append(Tile(to_uint8(frames[-1]), f"{row.head}, {word}"))
        moved, inside = warp(frames[-2], clip.motions[-1])
        left = ((moved - frames[-1]).abs() * inside).mean(1)[0].numpy()
        made.append(Tile(heat(left, top=0.2), f"flicker: {row.ratio:.1f} times the photo's"))
    return made


def _print(rows: Sequence[Steadiness], console: Console) -> None:
    table = [(name, *(f"{row[key]:{form}}" for key, form in _COLUMNS)) for name, row in summary(rows).items()]
    console.table(table, header=("CLIP", "PHOTO'S OWN", "PAINTED", "RATIO", "MOST", "SHARPNESS", "CONTENT"))


_COLUMNS = (
    ("own", ".4f"),
    ("painted", ".4f"),
    ("ratio", ".2f"),
    ("ratio_most", ".2f"),
    ("sharpness", ".2f"),
    ("content", ".3f"),
)
