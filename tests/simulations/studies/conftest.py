"""Small pictures made on the spot: blobs for photos, strokes for paintings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from shared_model.images import save_picture

Bytes = NDArray[np.uint8]
SIDE = 160


def photo(seed: int, side: int = SIDE) -> Bytes:
    """Smooth blobs with edges."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (9, 9, 0)) * 60
    return np.asarray(np.clip(128 + 60 * np.sign(smooth) + 60 * smooth, 0, 255), dtype=np.uint8)


def painting(seed: int, angle: float = 30.0, long: float = 4.0, side: int = SIDE) -> Bytes:
    """Strokes of one direction and length in two colors of the painter's own."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2 * side, 2 * side)), (1, long))
    strokes = ndimage.rotate(noise, angle, reshape=False)[side // 2 : side // 2 + side, side // 2 : side // 2 + side]
    value = 128 + 128 * np.clip(strokes / strokes.std() / 2, -1, 1)
    return np.asarray(np.clip(np.stack([value * 1.1, value * 0.8, value * 0.5], -1), 0, 255), dtype=np.uint8)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos/`` with three photos, ``art/`` with two paintings, one of them in a folder of its painter."""
    folder = tmp_path_factory.mktemp("gallery")
    for index in range(3):
        save_picture(folder / "photos" / f"{index}.png", photo(index))
    save_picture(folder / "art" / "slanted.png", painting(10))
    save_picture(folder / "art" / "ada" / "upright.png", painting(11, angle=90))
    return folder


@pytest.fixture(scope="session")
def atelier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two painters, ``level`` and ``steep``: same colors, strokes in different directions."""
    folder = tmp_path_factory.mktemp("atelier")
    for name, angle in (("level", 0.0), ("steep", 90.0)):
        for index in range(2):
            save_picture(folder / name / f"{index}.png", painting(20 + index, angle=angle, side=200))
    return folder
