"""Stylising: sizes, seeds, options, refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, InputError
from shared_model.head import Head
from shared_model.pyramid import luminance
from shared_model.stylize import MAX_SIDE, Options, stylize

Pictures = Callable[..., Tensor]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (96, 128), (33, 47), (200, 150), (5, 400)])
def test_the_output_has_the_photos_size_and_range(
    head: Head, backbone: Backbone, picture: Pictures, size: tuple[int, int]
) -> None:
    output = stylize(picture(1, *size), head=head, backbone=backbone)
    assert output.shape == (1, 3, *size)
    assert bool(torch.isfinite(output).all()) and float(output.min()) >= 0 and float(output.max()) <= 1


def test_size_sets_the_short_side(head: Head, backbone: Backbone, picture: Pictures) -> None:
    for size_px in (40, 200):
        output = stylize(picture(1, 96, 128), head=head, backbone=backbone, options=Options(size_px=size_px))
        assert output.shape[-2:] == (size_px, round(size_px * 128 / 96))


def test_seeds_repeat_and_differ(head: Head, backbone: Backbone, picture: Pictures) -> None:
    outputs = [stylize(picture(1), head=head, backbone=backbone, options=Options(seed=s)) for s in (1, 1, 2)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_strength_goes_from_the_photo_to_the_painting(head: Head, backbone: Backbone, picture: Pictures) -> None:
    photo = picture(1)
    none, half, full = (
        stylize(photo, head=head, backbone=backbone, options=Options(strength=s)) for s in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(none, photo)
    torch.testing.assert_close(half, (photo + full) / 2)


def test_keep_color_keeps_the_photos_chroma(head: Head, backbone: Backbone, picture: Pictures) -> None:
    photo = 0.35 + 0.3 * picture(1)
    output = stylize(photo, head=head, backbone=backbone, options=Options(keep_color=True))
    inside = (output > 0.001).all(1, keepdim=True) & (output < 0.999).all(1, keepdim=True)
    gap = ((output - luminance(output)) - (photo - luminance(photo))).abs() * inside
    assert float(gap.max()) < 1e-4 and float(inside.float().mean()) > 0.5


def test_a_large_photo_is_painted_finely_too_unless_its_own_detail_is_asked_for(
    head: Head, backbone: Backbone, picture: Pictures
) -> None:
    coarse = picture(1, 300, 400)
    fine = torch.zeros_like(coarse)
    fine[:, :, ::2, ::2] = 0.2
    sharp = {}
    for detail in (0.5, 0.75, 1.0):
        options, photos = Options(detail=detail), (coarse * 0.7, (coarse + fine) * 0.7)
        outputs = [stylize(photo.clamp(0, 1), head=head, backbone=backbone, options=options) for photo in photos]
        steps = [float((o[:, :, :, 1:] - o[:, :, :, :-1]).abs().mean()) for o in outputs]
        sharp[detail] = steps[1] - steps[0]
    assert sharp[1.0] > 0.02
    assert 0.3 * sharp[1.0] < sharp[0.75] < 0.7 * sharp[1.0]
    assert abs(sharp[0.5]) < 0.2 * sharp[1.0]


def test_a_small_thing_by_itself_is_drawn_in_a_large_painting(
    head: Head, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 5 * head.config.canvas_px
    photo, middle = torch.linspace(0.3, 0.7, side).expand(1, 3, side, side).clone(), side // 2
    eye = (..., slice(middle - 4, middle + 4), slice(middle - 4, middle + 4))
    photo[eye] = (torch.arange(8) // 2 % 2).float()
    drawn = stylize(photo, head=head, backbone=backbone)
    monkeypatch.setattr("shared_model.stylize.drawn", lambda photo, canvas: torch.zeros_like(canvas[:, :1]))
    dabbed = stylize(photo, head=head, backbone=backbone)
    assert float(drawn[eye].std()) > 1.5 * float(dabbed[eye].std())


def test_a_photo_of_the_canvas_s_size_has_no_dabs(
    head: Head, backbone: Backbone, picture: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = picture(1, head.config.canvas_px, head.config.canvas_px + 20)
    painted = stylize(photo, head=head, backbone=backbone)
    monkeypatch.setattr("shared_model.stylize.share", lambda config, detail: 0.0)
    assert torch.equal(stylize(photo, head=head, backbone=backbone), painted)


def test_a_head_of_another_backbone_is_refused(head: Head, backbone: Backbone, picture: Pictures) -> None:
    other = Backbone(backbone.config, seed=99)
    with pytest.raises(CompatibilityError) as caught:
        stylize(picture(1), head=head, backbone=other)
    assert "personalize" in caught.value.hint
    with pytest.raises(CompatibilityError):
        stylize(picture(1), head=dataclasses.replace(head, backbone=""), backbone=backbone)


@pytest.mark.parametrize(
    "values",
    [
        {"strength": 1.1},
        {"strength": float("nan")},
        {"detail": -0.1},
        {"size_px": 0},
        {"size_px": MAX_SIDE + 1},
        {"seed": -1},
        {"seed": 1 << 31},
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Options(**values)  # type: ignore[arg-type]


def test_an_output_of_absurd_length_is_refused(head: Head, backbone: Backbone) -> None:
    with pytest.raises(InputError, match="too large"):
        stylize(torch.rand(1, 3, 2, 400), head=head, backbone=backbone, options=Options(size_px=400))


@pytest.mark.parametrize("size", [(250, 333), (1100, 130), (130, 1100)])  # the canvas is 4:1 at most
def test_rows_of_a_large_photo_fit_together(
    head: Head, backbone: Backbone, picture: Pictures, size: tuple[int, int]
) -> None:
    """A photo finished a few rows at a time equals the photo finished at once: no seams."""
    photo = picture(1, *size)
    at_once = stylize(photo, head=head, backbone=backbone, rows=max(size))
    for rows in (1, 7, 128):
        banded = stylize(photo, head=head, backbone=backbone, rows=rows)
        torch.testing.assert_close(banded, at_once, atol=1e-5, rtol=0)
