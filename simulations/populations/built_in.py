"""The pictures of a population that has none: crops of scikit-image's photos, painted by easel's painters.

Crops for training and for personal tests come from parts of a photo that do not overlap; what is held
out comes from photos of which nobody owns a part.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from shared_model.images import save_picture
from simulations.painted_people import TASTES, Taste
from simulations.painters import PAINTERS, PALETTES, paint
from simulations.pictures import crops, default_photos
from simulations.population import Follow, Pixels
from simulations.populations.config import PopulationConfig
from simulations.populations.sources import Group, Sources

__all__ = ["built_in_sources", "tastes"]

_OWN = ("camera", "coffee", "motorcycle_left", "rocket")
_TESTED = ("coffee", "motorcycle_left", "rocket")  # the rest of the photographer's picture is empty
_HELD = ("astronaut", "chelsea")
_SPLIT = 0.55  # of a photo's longer side: the rest is for personal tests
_PARTS = 24  # crops cut by one call
_TRAIN, _TEST = 0, 1


def built_in_sources(folder: Path, *, config: PopulationConfig, follow: Follow) -> Sources:
    """Cut and paint all pictures of a population into ``folder``; files that are there already stay.

    Parameters
    ----------
    folder
        Where the pictures go.
    config
        How many, and of which size; every device will find enough.
    follow
        Told the fraction done.
    """
    names = tastes(max(config.styles, config.devices if config.kind == "natural" else 1))
    plenty = {"natural": len(names), "dirichlet": 2 * config.devices}.get(config.kind, config.devices)
    each = -(-plenty * (config.art_each + 1) // len(names))
    hands = []
    for index, taste in enumerate(names):
        follow(index / len(names), taste.words)
        works = _crops(_TRAIN, each + 1, config, salt=f"art {index}")
        hands.append(
            [
                _painted(folder / "art" / f"{index:03d}" / f"{number:03d}.png", rgb, taste, config.seed + number)
                for number, rgb in enumerate(works)
            ]
        )
    held = [hand.pop() for hand in hands]
    photos = _written(folder / "photos", _crops(_TRAIN, config.devices * config.photos_each, config, salt="photos"))
    tests = _written(folder / "tests", _crops(_TEST, config.devices * config.tests, config, salt="tests"))
    shown = _written(folder / "held", _shown(config))
    return Sources(
        (Group("built-in", photos),),
        tuple(Group(taste.words, tuple(works)) for taste, works in zip(names, hands, strict=True)),
        shown,
        tuple(held[: config.held_art]),
        tests,
    )


def tastes(count: int) -> tuple[Taste, ...]:
    """Return so many different tastes: those of :mod:`simulations.painted_people` first."""
    found = list(TASTES[:count])
    for stroke in (1.0, 1.6, 0.7, 1.3, 2.0):
        for turn in range(len(PALETTES)):
            for index, painter in enumerate(sorted(PAINTERS)):
                palette = sorted(PALETTES)[(index + turn) % len(PALETTES)]
                taste = Taste(painter, palette, stroke, f"{painter}, {palette}, strokes of {stroke:g}")
                if len(found) < count and not any(_alike(taste, other) for other in TASTES):
                    found.append(taste)
    if len(found) < count:
        raise ValueError(f"there are {len(found)} tastes, not {count}")
    return tuple(found)


def _alike(one: Taste, other: Taste) -> bool:
    return (one.painter, one.palette) == (other.painter, other.palette)


def _crops(part: int, count: int, config: PopulationConfig, *, salt: str) -> list[Pixels]:
    """Cut crops from one part of the own photos, in random order."""
    dice = random.Random(f"{config.seed}/{salt}")
    bundled = default_photos()
    names = _OWN if part == _TRAIN else _TESTED
    found: list[Pixels] = []
    while len(found) < count:
        wanted = min(_PARTS, -(-(count - len(found)) // len(names)))
        for name in names:
            window = _part(bundled[name], part)
            found.extend(crops(window, wanted, size=config.pictures_px, seed=dice.randrange(1 << 31)))
    dice.shuffle(found)
    return found[:count]


def _part(rgb: Pixels, part: int) -> Pixels:
    """Return the larger part of a photo along its longer side, or the rest."""
    tall = rgb.shape[0] > rgb.shape[1]
    along = rgb if tall else np.swapaxes(rgb, 0, 1)
    at = round(_SPLIT * len(along))
    cut = along[:at] if part == _TRAIN else along[at:]
    return np.ascontiguousarray(cut if tall else np.swapaxes(cut, 0, 1))


def _shown(config: PopulationConfig) -> list[Pixels]:
    bundled = default_photos()
    each = -(-config.held_photos // len(_HELD))
    cut = [crops(bundled[name], each, size=config.pictures_px, seed=config.seed) for name in _HELD]
    return [rgb for turn in zip(*cut, strict=True) for rgb in turn][: config.held_photos]


def _painted(path: Path, rgb: Pixels, taste: Taste, seed: int) -> Path:
    if not path.exists():
        save_picture(path, paint(rgb, taste.painter, palette=taste.palette, stroke=taste.stroke, seed=seed))
    return path


def _written(folder: Path, pictures: list[Pixels]) -> tuple[Path, ...]:
    files = [folder / f"{number:05d}.png" for number in range(len(pictures))]
    for path, rgb in zip(files, pictures, strict=True):
        if not path.exists():
            save_picture(path, rgb)
    return tuple(files)
