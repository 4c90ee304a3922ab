"""How wide and long marks are: read off pictures whose marks are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.config import STROKES, HeadConfig
from shared_model.head import Head
from shared_model.marks import proportions, scaled

Pictures = Callable[..., Tensor]
BROAD = STROKES["broad"]


def _strokes(wide: float, long: float, *, seed: int = 0, upright: bool = False, side: int = 320) -> Tensor:
    """Noise drawn out to marks of this width and length in pixels, with a gray value of its own each."""
    generator = torch.Generator().manual_seed(seed)
    size = (round(side / wide), round(side / long))
    noise = torch.randn(1, 1, *(size[::-1] if upright else size), generator=generator)
    marks = F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)
    return (0.5 + 0.08 * marks).clamp(0, 1).expand(1, 3, -1, -1)


@pytest.mark.parametrize("upright", [False, True])
def test_wider_and_longer_marks_are_told(upright: bool) -> None:
    sizes = [proportions([_strokes(wide, long, upright=upright)]) for wide, long in ((4, 8), (4, 16), (8, 16))]
    (width, length), (same_width, longer), (wider, same_length) = sizes
    assert abs(same_width / width - 1) < 0.25 and longer > 1.4 * length
    assert wider > 1.5 * width and abs(same_length / longer - 1) < 0.25


def test_pictures_are_averaged() -> None:
    one, other = _strokes(4, 8), _strokes(8, 16)
    both = proportions([one, other])
    for i in range(2):
        assert min(proportions([one])[i], proportions([other])[i]) < both[i]
        assert both[i] < max(proportions([one])[i], proportions([other])[i])


@pytest.mark.parametrize("size", [(64, 64), (5, 9), (1, 1)])
def test_where_there_is_nothing_to_measure_marks_are_typical(size: tuple[int, int]) -> None:
    assert proportions([torch.full((1, 3, *size), 0.5)]) == (1.0, 1.0)
    one = _strokes(4, 8)
    assert proportions([torch.full((1, 3, *size), 0.5), one]) == proportions([one])


def test_brush_and_stroke_follow_within_bounds() -> None:
    small, large = (scaled(BROAD, [_strokes(*size)]) for size in ((2.5, 4), (16, 60)))
    assert (small.brush, small.stroke) == (2, 4) and (large.brush, large.stroke) == (4, 16)
    assert replace(small, brush=BROAD.brush, stroke=BROAD.stroke) == BROAD
    for config in (HeadConfig(measured=True), replace(BROAD, measured=False)):  # nothing laid in; as it is told
        assert scaled(config, [_strokes(16, 60)]) == config


def test_a_broad_head_has_its_owners_brush() -> None:
    config = replace(BROAD, atoms=64, candidates=600, components=12, canvas_px=320)
    hue = torch.linspace(-0.05, 0.05, 320) * torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)  # gray ones are hatched
    small, large = (Head.fit([_strokes(*size) + hue], config=config) for size in ((2.5, 4), (16, 60)))
    assert small.config.brush < large.config.brush and small.config.stroke < large.config.stroke
    assert Head.from_bytes(large.to_bytes()).config == large.config
