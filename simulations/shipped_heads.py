"""Make the heads that easel ships: its own painters' manners, learned from pictures they painted.

``python -m simulations.shipped_heads`` writes one head per manner beside the shipped backbone. The
pictures are scikit-image's photographs, painted by :mod:`simulations.painters`; nobody's private
picture is in them. Run it again whenever the shipped backbone changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import STROKES, HeadConfig
from shared_model.files import write_atomic
from shared_model.head import Head
from shared_model.images import resize_short, to_tensor, to_uint8
from shared_model.weights import default_backbone, default_backbone_path
from simulations.painters import Style
from simulations.pictures import default_photos

__all__ = ["MANNERS", "Manner", "main", "make_head", "paintings"]


@dataclass(frozen=True)
class Manner:
    """A classical painter's style, and the kind of head that carries it best.

    Parameters
    ----------
    style
        How the pictures that the head learns from are painted.
    head
        The head's settings.
    hues
        Paint every model in three colorings (its channels turned round), so that a photo of any color finds strokes:
        for heads that keep the photo's colors.
    """

    style: Style
    head: HeadConfig
    hues: bool = False


# Chosen by eye, on faces, a bird and a crowd (docs/model.md): in the photo's own colors unless the manner has colors
# of its own. Ink is hatched, which a head finds out by itself (shared_model.hatching).
_BROAD = replace(STROKES["broad"], measured=False)
_INK = HeadConfig(patch=9, atoms=1024, roughness=0.8, abstraction=0.7)
MANNERS = {
    "cartoon": Manner(
        Style("cartoon", palette="natural", stroke=1.2, seed=1),
        replace(STROKES["flat"], palette=0.0, vivid=0.6, surface=0.0),
        hues=True,
    ),
    "impressionist": Manner(
        Style("impressionist", palette="natural", stroke=1.4, seed=2),
        replace(
            _BROAD,
            brush=2,
            stroke=4,
            variety=1.2,
            bias=0.4,
            palette=0.0,
            hues=0.6,
            structure=0.55,
            roughness=0.9,
            surface=0.45,
            tone=0.02,
        ),
        hues=True,
    ),
    "oil": Manner(
        Style("oil", palette="natural", stroke=1.4, seed=3),
        replace(_BROAD, palette=0.0, structure=0.65, surface=0.3, tone=0.02),
        hues=True,
    ),
    "sketch": Manner(Style("sketch", palette="natural", stroke=1.4, seed=4), replace(_INK, patch=7)),
    "watercolor": Manner(
        Style("watercolor", palette="natural", stroke=1.4, seed=5),
        replace(STROKES["wash"], palette=0.0, vivid=0.5),
        hues=True,
    ),
    "woodcut": Manner(Style("woodcut", palette="earth", stroke=1.4, seed=6), replace(_INK, roughness=0.3)),
}
_MODELS = ("astronaut", "chelsea", "coffee", "rocket")
_TURNS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # of red, green and blue
_CANVAS_PX = 512


def paintings(manner: Manner) -> list[Tensor]:
    """Paint the four models in one manner: ``(1, 3, H, W) float in [0, 1]`` each, short side 512 px."""
    photos = default_photos()
    painted = []
    for name in _MODELS:
        photo = to_uint8(resize_short(to_tensor(photos[name]), _CANVAS_PX))
        for turn in _TURNS if manner.hues else _TURNS[:1]:
            painted.append(to_tensor(manner.style.paint(np.ascontiguousarray(photo[:, :, turn]))))
    return painted


def make_head(name: str, backbone: Backbone) -> Head:
    """Fit the head of one manner; untuned: what ``--style`` would give."""
    manner = MANNERS[name]
    return Head.fit(paintings(manner), backbone=backbone, name=name, config=manner.head)


def main(*, say: Callable[[str], None] = print) -> None:
    """Write all heads beside the shipped backbone."""
    backbone = default_backbone()
    folder: Path = default_backbone_path().parent / "heads"
    for name in MANNERS:
        data = make_head(name, backbone).to_bytes()
        write_atomic(folder / f"{name}.head", data)
        say(f"{name}: {len(data) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
