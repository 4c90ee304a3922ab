"""Make the paintings that a release is tried on before promotion (:mod:`server.trial`).

``python -m simulations.trial_paintings`` writes one sheet beside the sample photos: photographs of scikit-image (public
domain or CC0), painted by easel's own classical painters. Nobody's private picture is in it, and no photo in it is the
one that it is paired with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared_model.assets import find_asset
from shared_model.files import write_atomic
from shared_model.images import encode_picture, resize_short, to_tensor, to_uint8
from simulations.painters import Style
from simulations.pictures import default_photos

__all__ = ["TILES", "main", "sheet"]

_SIDE = 320
#: What is painted, and how.
TILES = (
    ("coffee_cup", Style("oil", palette="natural", stroke=1.4, seed=11)),
    ("rocket_pad", Style("impressionist", palette="natural", stroke=1.4, seed=12)),
    ("astronaut_helmet", Style("watercolor", palette="natural", stroke=1.2, seed=13)),
    ("camera_man", Style("woodcut", palette="earth", stroke=1.2, seed=14)),
)


def sheet() -> np.ndarray:
    """Paint the tiles side by side: ``(320, 320 n, 3) uint8``."""
    photos = default_photos()
    tiles = [style.paint(to_uint8(resize_short(to_tensor(photos[name]), _SIDE))) for name, style in TILES]
    return np.concatenate([tile[:_SIDE, :_SIDE] for tile in tiles], axis=1)


def main(*, say: Callable[[str], None] = print) -> None:
    """Write the sheet."""
    path: Path = find_asset("data/calibration.jpg").with_name("paintings.jpg")
    data = encode_picture(sheet(), suffix=".jpg")
    write_atomic(path, data)
    say(f"{path.name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
