"""The photographs that come with scikit-image, so that a demo needs no download."""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared_model.errors import InputError, MissingError
from shared_model.images import load_picture

__all__ = ["crops", "default_photos", "wall"]

# Files in scikit-image's wheel (others it would download), and good parts of them: left, top, right, bottom.
_FILES = (
    ("astronaut", "astronaut.png"),
    ("camera", "camera.png"),
    ("chelsea", "chelsea.png"),
    ("coffee", "coffee.png"),
    ("motorcycle_left", "motorcycle_left.png"),
    ("motorcycle_right", "motorcycle_right.png"),
    ("rocket", "rocket.jpg"),
)
_PARTS = (
    ("astronaut_face", "astronaut", (108, 0, 368, 260)),
    ("astronaut_helmet", "astronaut", (232, 232, 512, 512)),
    ("camera_man", "camera", (80, 40, 400, 360)),
    ("chelsea_face", "chelsea", (110, 10, 390, 290)),
    ("coffee_cup", "coffee", (130, 10, 490, 370)),
    ("motorcycle_engine", "motorcycle_left", (160, 130, 520, 490)),
    ("rocket_pad", "rocket", (200, 60, 560, 420)),
)
# Hung in rows on a wall: what a frame larger than any of them shows has detail down to the pixel.
_WALL = (("motorcycle_left", "rocket"), ("coffee", "chelsea"), ("astronaut", "camera", "motorcycle_right"))
_WALL_ROW = 427  # pixels: about the height that they have


def default_photos() -> dict[str, NDArray[np.uint8]]:
    """Return the photographs in scikit-image's wheel and parts of them, by name.

    Nothing is downloaded. The whole pictures come first, then the parts (`astronaut_face` and so on).

    Returns
    -------
    dict
        Name to ``(H, W, 3) uint8``.

    Raises
    ------
    MissingError
        If scikit-image, or one of its pictures, is not installed.
    """
    photos = {name: _read(file) for name, file in _FILES}
    for name, source, (left, top, right, bottom) in _PARTS:
        photos[name] = photos[source][top:bottom, left:right].copy()
    return photos


def wall() -> NDArray[np.uint8]:
    """Return whole photographs side by side, at about their own size: ``(1281, 1273, 3) uint8``.

    A single one would have to be enlarged for a large frame, and would have no detail there.
    """
    photos = default_photos()
    rows = [np.concatenate([_of_height(photos[name], _WALL_ROW) for name in names], 1) for names in _WALL]
    width = min(row.shape[1] for row in rows)
    return np.concatenate([row[:, :width] for row in rows])


def _of_height(photo: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    width = round(photo.shape[1] * height / photo.shape[0])
    return np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))


def crops(photo: NDArray[np.uint8], count: int, *, size: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Cut square parts out of a photo, spread over it.

    Each is cut as large as possible to half of that, then resized. Crops of one call differ from each
    other in place or size, unless the photo is too small for that.

    Parameters
    ----------
    photo
        ``(H, W, 3) uint8``.
    count
        How many.
    size
        Side of each result in pixels.
    seed
        The same seed gives the same parts.

    Returns
    -------
    list of ndarray
        ``count`` pictures ``(size, size, 3) uint8``.

    Raises
    ------
    InputError
        If ``count`` or ``size`` is not positive.
    """
    if count < 1 or size < 1:
        raise InputError(f"cannot cut {count} crops of {size} pixels", hint="both must be 1 or more")
    height, width = photo.shape[:2]
    rng = np.random.default_rng(seed)
    image = Image.fromarray(np.ascontiguousarray(photo))
    along = rng.permutation((np.arange(count) + rng.random(count)) / count)  # one in each of `count` equal parts
    found = []
    for place in along.tolist():
        side = max(1, round(min(height, width) * rng.uniform(0.5, 1.0)))
        free = (width - side, height - side)
        share = (place, rng.random()) if width >= height else (rng.random(), place)
        left, top = round(free[0] * share[0]), round(free[1] * share[1])
        box = (left, top, left + side, top + side)
        found.append(np.array(image.resize((size, size), Image.Resampling.LANCZOS, box=box)))
    return found


def _read(file: str) -> NDArray[np.uint8]:
    try:
        data = (resources.files("skimage") / "data" / file).read_bytes()
    except (ImportError, OSError) as error:
        hint = "install easel with its simulations: pip install 'easel[sim]'"
        raise MissingError(f"scikit-image's picture {file} is not installed", hint=hint) from error
    return load_picture(data).rgb
