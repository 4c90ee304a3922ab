from __future__ import annotations

import dataclasses

import pytest
import torch
from skimage import data

from shared_model.backbone import Backbone
from shared_model.color import ColorStats
from shared_model.config import HeadConfig, ModelConfig
from shared_model.errors import CompatibilityError, InputError
from shared_model.head import Head
from shared_model.images import resize_short, to_tensor
from shared_model.look import Look
from shared_model.mix import Mixed, mix, shares
from shared_model.stylize import Options, stylize

CONFIG = HeadConfig(canvas_px=96, levels=2, patch=5, atoms=64, components=8, candidates=400)


@pytest.fixture(scope="module")
def hand() -> Backbone:
    return Backbone(ModelConfig(width=8, blocks=1, code_dim=4, encoder_width=3, critic_width=4), seed=3).eval()


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return resize_short(to_tensor(data.astronaut()), 96)


@pytest.fixture(scope="module")
def warm(hand: Backbone) -> Head:
    return Head.fit([resize_short(to_tensor(data.coffee()), 96)], backbone=hand, name="warm", config=CONFIG)


@pytest.fixture(scope="module")
def gray(hand: Backbone) -> Head:
    stone = to_tensor(data.brick()[..., None].repeat(3, -1))
    config = dataclasses.replace(CONFIG, levels=3, patch=7, hand=0.3)
    return Head.fit([resize_short(stone, 96)], backbone=hand, name="gray", config=config)


def colorfulness(picture: torch.Tensor) -> float:
    return float((picture - picture.mean(1, keepdim=True)).square().mean().sqrt())


def test_a_mix_lies_between_its_heads(warm: Head, gray: Head, hand: Backbone, photo: torch.Tensor) -> None:
    painted = [stylize(photo, head=mix([warm, gray], [1 - w, w]), backbone=hand) for w in (0, 0.25, 0.5, 0.75, 1)]
    color = [colorfulness(picture) for picture in painted]
    assert color == sorted(color, reverse=True) and color[0] > 2 * color[-1]
    first, last = painted[0], painted[-1]
    away = [float((picture - first).abs().mean()) for picture in painted]
    assert away == sorted(away)
    middle = painted[2]
    assert max(float((middle - end).abs().mean()) for end in (first, last)) < float((last - first).abs().mean())


def test_strokes_of_a_mix_are_as_strong_as_those_of_its_heads(
    warm: Head, gray: Head, hand: Backbone, photo: torch.Tensor
) -> None:
    ends = [stylize(photo, head=head, backbone=hand) for head in (warm, gray)]
    mixed = stylize(photo, head=mix([warm, gray], [1, 1]), backbone=hand)

    def strength(picture: torch.Tensor) -> float:
        light = picture.mean(1, keepdim=True)
        return float((light - torch.nn.functional.avg_pool2d(light, 5, 1, 2)).square().mean().sqrt())

    averaged = strength((ends[0] + ends[1]) / 2)
    assert strength(mixed) > 1.02 * averaged
    assert strength(mixed) < 1.3 * max(strength(end) for end in ends)


def test_a_whole_share_is_the_head_itself(warm: Head, gray: Head) -> None:
    assert mix([warm, gray], [1, 0]) is warm
    assert mix([gray], [3]) is gray


def test_a_tiny_share_changes_little(warm: Head, gray: Head, hand: Backbone, photo: torch.Tensor) -> None:
    alone = stylize(photo, head=warm, backbone=hand)
    nearly = stylize(photo, head=mix([warm, gray], [0.98, 0.02]), backbone=hand)
    assert float((alone - nearly).abs().mean()) < 0.04


def test_order_of_the_heads_does_not_matter(warm: Head, gray: Head, hand: Backbone, photo: torch.Tensor) -> None:
    one = stylize(photo, head=mix([warm, gray], [0.6, 0.4]), backbone=hand)
    other = stylize(photo, head=mix([gray, warm], [2, 3]), backbone=hand)
    assert torch.allclose(one, other, atol=1e-4)


def test_a_head_of_an_early_version_can_be_mixed(warm: Head, gray: Head, hand: Backbone, photo: torch.Tensor) -> None:
    """It remembers no colors of marks, so the mix finishes as it does: by red, green and blue."""
    older = dataclasses.replace(gray, surface=dataclasses.replace(gray.surface, tints=None, colors=None))
    mixed = mix([warm, older], [0.6, 0.4])
    assert mixed.surface.tints is None and mixed.surface.colors is None
    assert mix([warm, gray], [0.6, 0.4]).surface.tints is not None
    assert bool(stylize(photo, head=mixed, backbone=hand).isfinite().all())


def test_palette_between_two_is_the_barycenter(warm: Head, gray: Head) -> None:
    mixed = mix([warm, gray], [0.5, 0.5]).color
    assert torch.allclose(mixed.mean, (warm.color.mean + gray.color.mean) / 2, atol=1e-5)
    assert torch.linalg.eigvalsh(mixed.covariance).min() > -1e-4
    same = dataclasses.replace(warm, name="other")
    again: ColorStats = mix([warm, same], [0.5, 0.5]).color
    assert torch.allclose(again.covariance, warm.color.covariance, atol=1e-4)
    assert torch.allclose(again.axes.abs(), warm.color.axes.abs(), atol=1e-2)
    assert torch.allclose(again.tones.abs().sum(1), warm.color.tones.abs().sum(1), rtol=0.05)


def test_mix_is_told_by_its_heads_and_never_stored(warm: Head, gray: Head) -> None:
    mixed = mix([warm, gray], [1, 3], name="both")
    assert isinstance(mixed, Mixed) and mixed.shares == (0.25, 0.75) and mixed.name == "both"
    assert mixed.config.hand == pytest.approx(0.25 * warm.config.hand + 0.75 * gray.config.hand)
    assert mixed.to("cpu").shares == mixed.shares
    with pytest.raises(InputError, match="not stored"):
        mixed.to_bytes()


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2], [float("nan"), 1], [1] * 9, [1e9, 1]])
def test_senseless_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError):
        shares(weights)


def test_heads_of_different_backbones_are_refused(warm: Head, gray: Head) -> None:
    with pytest.raises(CompatibilityError, match="different backbones"):
        mix([warm, dataclasses.replace(gray, backbone="another")], [1, 1])
    with pytest.raises(InputError, match="as many weights"):
        mix([warm, gray], [1])


# --- look ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [Look(brush=2.0), Look(roughness=3.0), Look(hand=0.0), Look(brush=0.5)])
def test_every_knob_of_a_look_shows(look: Look, warm: Head, gray: Head, hand: Backbone, photo: torch.Tensor) -> None:
    for head in (warm, mix([warm, gray], [0.7, 0.3])):
        plain = stylize(photo, head=head, backbone=hand, options=Options(seed=1))
        bent = stylize(photo, head=look.apply(head), backbone=hand, options=Options(seed=1))
        assert bent.shape == plain.shape and float((bent - plain).abs().mean()) > 1e-3


def test_a_plain_look_changes_nothing(warm: Head) -> None:
    assert Look().apply(warm) is warm


def test_a_larger_brush_paints_broader(warm: Head, hand: Backbone, photo: torch.Tensor) -> None:
    def fineness(brush: float) -> float:
        picture = stylize(photo, head=Look(brush=brush).apply(warm), backbone=hand, options=Options(detail=0))
        paint = picture - photo  # what is finer than the canvas comes from the photo itself
        return float((paint[..., 1:] - paint[..., :-1]).square().mean() / paint.var())

    assert fineness(2.0) < 0.9 * fineness(1.5) < 0.7 * fineness(1.0)


@pytest.mark.parametrize("wrong", [{"brush": 0.1}, {"roughness": -1.0}, {"hand": float("nan")}])
def test_a_look_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be between"):
        Look(**wrong)
