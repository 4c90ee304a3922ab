"""Strokes that belong to a scene: the same place is painted alike wherever a frame lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.head import Head
from shared_model.mix import mix
from shared_model.pyramid import box
from shared_model.scene import Origin, Window, filled, jitter, normal
from shared_model.stylize import Options, canvas_size, stylize

Pictures = Callable[..., Tensor]
CONFIG = HeadConfig(canvas_px=96, levels=3, patch=7, atoms=64, components=8, candidates=400)


def seeded(number: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.fixture
def backbone() -> Backbone:
    return Backbone(ModelConfig(width=8, blocks=1), seed=1).eval()


@pytest.fixture
def head(picture: Pictures, backbone: Backbone) -> Head:
    return Head.fit([picture(7, 120, 150)], config=CONFIG, backbone=backbone)


def test_without_an_origin_the_numbers_are_those_of_a_photo() -> None:
    assert torch.equal(normal((5, 7), None, seeded()), torch.randn(1, 1, 5, 7, generator=seeded()))
    assert torch.equal(jitter((4, 6), 3, None, seeded()), torch.randint(0, 3, (2, 24), generator=seeded()))


@pytest.mark.parametrize("origin", [(0, 0), (13, 40), (-700, 1030)])
def test_a_place_has_the_same_numbers_in_every_frame(origin: tuple[int, int]) -> None:
    there = (origin[0] + 5, origin[1] - 9)
    one, other = (normal((40, 50), place, seeded()) for place in (origin, there))
    assert torch.equal(one[..., 5:, :-9], other[..., :-5, 9:])
    cells = [jitter((20, 30), 4, place, seeded()).view(2, 20, 30) for place in (origin, there)]
    assert torch.equal(cells[0][:, 5:, :-9], cells[1][:, :-5, 9:])
    assert set(cells[0].flatten().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "size", [(480, 854), (720, 1280), (1080, 1920), (2160, 3840), (1280, 720), (240, 320), (40, 31), (2, 9000)]
)
def test_the_canvas_of_a_frame_has_the_pixels_of_the_scene(size: tuple[int, int]) -> None:
    asked = canvas_size(torch.empty(1, 3, *size), 512)
    one = Window.of(size, canvas=asked, origin=(0, 0))
    scale = one.canvas[0] / (size[0] + sum(one.sides[2:]))
    assert scale == pytest.approx(one.canvas[1] / (size[1] + sum(one.sides[:2])))
    assert scale == pytest.approx(max(asked) / max(size), rel=0.02)
    for origin in ((1, 1), (7, -300), (-55, 12345)):
        window = Window.of(size, canvas=asked, origin=origin)
        left, _, top, _ = window.sides
        assert min(window.sides) >= 0 and max(window.sides) < 50
        # the corner of the canvas and the corner of the filled frame are one place of the scene
        assert window.origin == pytest.approx(((origin[0] - top) * scale, (origin[1] - left) * scale))


def test_filling_up_works_for_tiny_pictures(picture: Pictures) -> None:
    tiny = picture(1, 3, 4)
    assert filled(tiny, (0, 0, 0, 0)) is tiny
    assert filled(tiny, (9, 0, 2, 1)).shape[-2:] == (6, 13)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("way", [(1, 0), (5, 11)])
def test_strokes_stay_on_the_scene(
    head: Head,
    backbone: Backbone,
    picture: Pictures,
    way: tuple[int, int],
    mixed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a pan by whole pixels nothing changes far from the border."""
    monkeypatch.setattr(Head, "colored", lambda self, photo: photo)  # colors follow what comes into view
    if mixed:
        head = mix([head, Head.fit([picture(9)], config=CONFIG, backbone=backbone)], [2, 1])
    scene = (box(box(picture(3, 270, 280), 8), 4) * 3 - 1).clamp(0, 1)
    down, across = way
    corners = ((8, 8), (8 + down, 8 + across))
    frames = [scene[:, :, y : y + 240, x : x + 250] for y, x in corners]

    def change(origins: Sequence[Origin | None]) -> float:
        first, second = (head.draft(f, origin=o).painted for f, o in zip(frames, origins, strict=True))
        assert first.shape == frames[0].shape
        there = first[:, :, down:, across:]
        return float((there - second[:, :, : 240 - down, : 250 - across]).abs()[:, :, 64:-64, 64:-64].mean())

    assert change(corners) < 0.25 * change((None, None))


def test_a_whole_painting_stays_on_the_scene(head: Head, backbone: Backbone, picture: Pictures) -> None:
    """Larger than its canvas too, where a pixel of the frame is no whole pixel of the canvas."""
    scene = box(picture(3, 240, 250), 1)
    options = Options(seed=5)

    def change(with_scene: bool) -> float:
        painted = []
        for y, x in ((0, 0), (3, 4)):
            frame = scene[:, :, y : y + 200, x : x + 200]
            place = (y, x) if with_scene else None
            painted.append(stylize(frame, head=head, backbone=backbone, options=options, origin=place))
            assert painted[-1].shape == frame.shape
        return float((painted[0][:, :, 3:, 4:] - painted[1][:, :, :-3, :-4]).abs()[:, :, 30:-30, 30:-30].mean())

    assert change(True) < 0.4 * change(False)  # colors follow what comes into view
