"""People made from what easel brings along: scikit-image's photos and its own classical painters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared_model.images import resize_short, to_tensor, to_uint8
from simulations.painters import paint
from simulations.pictures import default_photos
from simulations.population import Follow, Pixels, Population, clear, keep_out, name_of, settle, shrunk
from simulations.settings import DemoConfig

__all__ = ["TASTES", "Taste", "paint_population"]

# Nobody owns a crop of these: they are painted in the end.
_HELD_OUT = (("astronaut", "Astronaut"), ("chelsea", "Cat"))
_OWN = ("camera", "coffee", "motorcycle_left", "rocket")


@dataclass(frozen=True)
class Taste:
    """What one simulated person's artworks are painted with, and how one would call it.

    Parameters
    ----------
    painter, palette
        Names in :mod:`simulations.painters`.
    stroke
        Size of the strokes; 1 is the painter's usual one.
    words
        For people.
    """

    painter: str
    palette: str
    stroke: float
    words: str


TASTES = (
    Taste("impressionist", "dusk", 1.2, "impressionist dabs in the colors of dusk"),
    Taste("woodcut", "earth", 1.0, "woodcuts in brown ink on old paper"),
    Taste("mosaic", "vivid", 1.5, "bright mosaics"),
    Taste("sketch", "cool", 1.0, "pencil drawings in blue"),
    Taste("oil", "vivid", 1.3, "oil in broad and vivid strokes"),
    Taste("watercolor", "warm", 1.0, "watercolors in warm light"),
    Taste("pointillist", "cool", 1.2, "thousands of cool dots"),
    Taste("cartoon", "natural", 1.0, "cartoons with clear outlines"),
)


def paint_population(folder: Path, *, config: DemoConfig, follow: Follow) -> Population:
    """Give every person crops of photos, and artworks painted from other crops in one taste.

    Parameters
    ----------
    folder
        The run's folder; ``devices`` and ``held_out`` in it are made anew.
    config
        Number and size of everything.
    follow
        Told the fraction done and whose pictures are being painted.
    """
    clear(folder)
    bundled = default_photos()
    sources = [bundled[name] for name in _OWN]
    people = []
    for index in range(config.devices):
        dice = random.Random(f"{config.seed}/{index}")
        taste = TASTES[index % len(TASTES)]
        follow(index / config.devices, f"{name_of(index)}: {taste.words}")
        photos = [_crop(rgb, config.pictures_px, dice) for rgb in _some(sources, config.photos_each, dice)]
        art = [_painted(rgb, taste, config.pictures_px, dice) for rgb in _some(sources, config.art_each, dice)]
        people.append(settle(folder, index, taste.words, photos=photos, art=art, config=config))
    dice = random.Random(f"{config.seed}/held out")
    shown = [(title, shrunk(bundled[name], config.paint_px)) for name, title in _HELD_OUT]
    judged = [
        (f"another work in {name_of(index)}'s taste", _painted(rgb, TASTES[index], config.pictures_px, dice))
        for index, rgb in enumerate(_some(sources, min(config.heads, len(TASTES)), dice))
    ]
    return Population(
        "built-in",
        "",
        tuple(people),
        keep_out(folder, "photos", shown[: config.paintings]),
        keep_out(folder, "art", judged),
    )


def _some(sources: Sequence[Pixels], count: int, dice: random.Random) -> list[Pixels]:
    """Choose ``count`` sources, each once before any comes twice."""
    chosen: list[Pixels] = []
    while len(chosen) < count:
        chosen.extend(dice.sample(list(sources), min(len(sources), count - len(chosen))))
    return chosen


def _crop(rgb: Pixels, short_px: int, dice: random.Random) -> Pixels:
    """Cut a random window of about 4 to 3 that shows much of the picture, and resize it."""
    height, width = rgb.shape[:2]
    rows = round(min(height, width * 3 / 4) * dice.uniform(0.5, 0.95))
    columns = min(width, round(rows * 4 / 3))
    top, left = dice.randint(0, height - rows), dice.randint(0, width - columns)
    window = rgb[top : top + rows, left : left + columns]
    mirrored = window[:, ::-1] if dice.random() < 0.5 else window
    return to_uint8(resize_short(to_tensor(np.ascontiguousarray(mirrored)), short_px))


def _painted(rgb: Pixels, taste: Taste, short_px: int, dice: random.Random) -> Pixels:
    window, seed = _crop(rgb, short_px, dice), dice.randrange(1 << 31)
    return paint(window, taste.painter, palette=taste.palette, stroke=taste.stroke, seed=seed)
