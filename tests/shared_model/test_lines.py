"""Line drawings: which palettes they are, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.color import ColorStats
from shared_model.config import HeadConfig
from shared_model.head import Head
from shared_model.lines import draw
from shared_model.pyramid import luminance

Pictures = Callable[..., Tensor]


def _sketch(paper: tuple[float, float, float] = (0.95, 0.93, 0.85), *, ink: float = 0.1, side: int = 160) -> Tensor:
    """Thin lines on paper, one row in twenty."""
    picture = torch.tensor(paper).view(1, 3, 1, 1).expand(1, 3, side, side).clone()
    picture[:, :, ::20] = ink
    return picture


def _disc(side: int = 128) -> Tensor:
    rows = torch.linspace(-1, 1, side)
    inside = (rows[:, None] ** 2 + rows[None, :] ** 2) < 0.4
    return torch.where(inside, 0.7, 0.2).expand(1, 3, side, side).contiguous()


def test_ink_on_bright_paper_is_a_line_drawing() -> None:
    assert 0.03 < ColorStats.of([_sketch()]).ink_share() < 0.08


def test_other_palettes_are_not(picture: Pictures) -> None:
    night = _sketch((0.1, 0.1, 0.1), ink=0.9)  # bright lines on a dark ground
    silk = _sketch((0.45, 0.35, 0.25), ink=0.1)  # paper too dark
    faint = _sketch((0.95, 0.93, 0.85), ink=0.8)  # hardly any ink
    flat = torch.full((1, 3, 40, 40), 0.9)
    assert [ColorStats.of([p]).ink_share() for p in (night, silk, faint, flat, picture(1))] == [0.0] * 5


def test_lines_lie_on_edges_and_nowhere_else() -> None:
    photo = _disc()
    drawn = draw(photo, 0.05)
    assert drawn.shape == photo.shape and float(drawn.min()) >= 0 and float(drawn.max()) <= 1
    assert torch.equal(drawn[:, 0], drawn[:, 2])
    ink = drawn[0, 0] < 0.5
    edge = torch.nn.functional.max_pool2d((photo[:, :1] > 0.5).float(), 13, 1, 6) - -torch.nn.functional.max_pool2d(
        -(photo[:, :1] > 0.5).float(), 13, 1, 6
    )
    assert int(ink.sum()) > 60 and float(edge[0, 0][ink].mean()) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (64, 7)])
def test_any_size_can_be_drawn(picture: Pictures, size: tuple[int, int]) -> None:
    assert bool(torch.isfinite(draw(picture(2, *size), 0.1)).all())


def test_a_flat_photo_stays_paper() -> None:
    assert float(draw(torch.full((1, 3, 64, 64), 0.4), 0.1).min()) > 0.6


def test_a_head_of_sketches_keeps_what_tones_would_bleach(small_head: HeadConfig) -> None:
    """A bright disc on brighter ground is paper all over in a sketch's palette; its outline must stay, as a line."""
    photo = 0.6 + 0.4 * _disc()
    head = Head.fit([_sketch()], config=small_head)
    drawn = torch.cat([luminance(head.draft(photo, seed=seed).painted) for seed in range(3)])
    rows = drawn[:, 0, 48:81].flatten(0, 1)  # from the left edge through the middle
    outside, outline, inside = rows[:, 2:12].mean(), rows[:, 15:35].min(1).values.mean(), rows[:, 50:78].mean()
    assert float(inside - outline) > 0.2
    assert float(outside - outline) > 0.15  # tones without lines: less than 0.1
