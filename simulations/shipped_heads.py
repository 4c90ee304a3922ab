"""Make the heads that easel ships: its own painters' manners, learned from pictures they painted.

``python -m simulations.shipped_heads`` writes one head per manner beside the shipped backbone. The
pictures are scikit-image's photographs, painted by :mod:`simulations.painters`; nobody's private
picture is in them. Run it again whenever the shipped backbone changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.files import write_atomic
from shared_model.head import Head
from shared_model.images import resize_short, to_tensor, to_uint8
from shared_model.weights import default_backbone, default_backbone_path
from simulations.painters import Style
from simulations.pictures import default_photos

__all__ = ["MANNERS", "Manner", "main", "make_head", "paintings"]


@dataclass(frozen=True)
class Manner:
    """A classical painter's style, and the kind of head that carries it best."""

    style: Style
    head: HeadConfig


# The backbone at full strength: these are mostly looked at on faces, which come out cleaner (by eye; docs/model.md).
_FINE = HeadConfig(hand=1.0)
# Strokes wider than seven pixels, and no grain between them.
_BROAD = HeadConfig(patch=9, levels=4, roughness=0.6, stroke=8, abstraction=0.8, tone=0.12, hand=1.0)
_FLAT = HeadConfig(abstraction=1.0, hand=1.0)
MANNERS = {
    "cartoon": Manner(Style("cartoon", palette="natural", stroke=1.2, seed=1), _FLAT),
    "impressionist": Manner(Style("impressionist", palette="natural", stroke=1.4, seed=2), _BROAD),
    "oil": Manner(Style("oil", palette="natural", stroke=1.4, seed=3), _BROAD),
    "sketch": Manner(Style("sketch", palette="natural", stroke=1.4, seed=4), _FINE),
    "watercolor": Manner(Style("watercolor", palette="natural", stroke=1.4, seed=5), _FINE),
    "woodcut": Manner(Style("woodcut", palette="earth", stroke=1.4, seed=6), _FINE),
}
_MODELS = ("astronaut", "chelsea", "coffee", "rocket")
_CANVAS_PX = 512


def paintings(style: Style) -> list[Tensor]:
    """Paint the four models in one manner: ``(1, 3, H, W) float in [0, 1]`` each, short side 512 px."""
    photos = default_photos()
    painted = []
    for name in _MODELS:
        photo = to_uint8(resize_short(to_tensor(photos[name]), _CANVAS_PX))
        painted.append(to_tensor(style.paint(photo)))
    return painted


def make_head(name: str, backbone: Backbone) -> Head:
    """Fit the head of one manner; untuned: what ``--style`` would give."""
    manner = MANNERS[name]
    styles = paintings(manner.style)
    return Head.fit(styles, backbone=backbone, name=name, config=manner.head)


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
