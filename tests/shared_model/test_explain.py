"""Explanations: the map must say what the look-up did, for any size and any head."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.errors import CompatibilityError
from shared_model.explain import Explanation, explain
from shared_model.head import Head
from shared_model.provenance import forget
from shared_model.stylize import Options, stylize

Pictures = Callable[..., Tensor]


@pytest.fixture
def red_and_blue(backbone: Backbone, small_head: HeadConfig) -> Head:
    """A head of two pictures whose patches cannot be taken for each other."""
    generator = torch.Generator().manual_seed(0)
    styles = []
    for color in ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9)):
        tint = torch.tensor(color).view(1, 3, 1, 1)
        styles.append((tint + 0.05 * torch.randn(1, 3, 96, 120, generator=generator)).clamp(0, 1))
    return Head.fit(styles, backbone=backbone, config=replace(small_head, roughness=0.0), name="both")


def halves_photo() -> Tensor:
    photo = torch.zeros(1, 3, 96, 128)
    photo[:, 0, :, :64] = 1
    photo[:, 2, :, 64:] = 1
    return photo


def test_red_places_come_from_the_red_picture_and_blue_ones_from_the_blue(
    red_and_blue: Head, backbone: Backbone
) -> None:
    made = explain(halves_photo(), head=red_and_blue, backbone=backbone)
    left, right = made.picture[:, :56], made.picture[:, 72:]
    assert float((left == 0).float().mean()) > 0.99 and float((right == 1).float().mean()) > 0.99
    assert made.shares[0] == pytest.approx((0.5, 0.5), abs=0.06)


def test_a_picture_explained_by_itself_points_at_itself(
    picture: Pictures, backbone: Backbone, small_head: HeadConfig
) -> None:
    """A head of one picture explains that picture: strokes lie close to where they were taken from."""
    style = picture(5)
    head = Head.fit(
        [style], backbone=backbone, config=replace(small_head, atoms=4000, candidates=4000, roughness=0.0, bias=0.0)
    )
    made = explain(style, head=head, backbone=backbone)
    down = torch.linspace(0, 1, 96)[:, None].expand(96, 128)
    across = torch.linspace(0, 1, 128)[None].expand(96, 128)
    error = (made.place - torch.stack([down, across], -1)).norm(dim=-1)
    shuffled = (made.place.flatten(0, 1)[torch.randperm(96 * 128)].view(96, 128, 2) - made.place).norm(dim=-1)
    assert float(error.median()) < 0.1 < float(shuffled.median()) / 2


def test_the_result_is_what_stylize_paints_and_the_change_is_the_difference(
    head: Head, backbone: Backbone, picture: Pictures
) -> None:
    photo, options = picture(2, 90, 121), Options(seed=4, detail=0.2)
    made = explain(photo, head=head, backbone=backbone, options=options)
    canvas = made.photo
    assert torch.equal(made.result, stylize(canvas, head=head, backbone=backbone, options=options))
    assert torch.equal(made.change, (made.result - made.draft).abs().mean(1)[0])
    assert made.picture.shape == made.change.shape == made.place.shape[:2] == canvas.shape[-2:]


def test_the_uses_add_up_and_name_real_places(head: Head, backbone: Backbone, picture: Pictures) -> None:
    made = explain(picture(2), head=head, backbone=backbone)
    assert sum(use.share for use in made.uses) == pytest.approx(1)
    assert [use.share for use in made.uses] == sorted((use.share for use in made.uses), reverse=True)
    first = made.uses[0]
    style = picture(7)
    cut = style[0, :, first.row : first.row + 7, first.column : first.column + 7]
    assert float((cut - head.levels[0].values[first.patch]).abs().max()) < 0.003
    assert made.used[0][0] == len(made.uses) <= made.used[0][1]


def test_facts_are_plain_json(red_and_blue: Head, backbone: Backbone) -> None:
    facts = json.loads(json.dumps(explain(halves_photo(), head=red_and_blue, backbone=backbone).facts(patches=3)))
    assert facts["remembers"] and len(facts["patches"]) == 3 and facts["patches"][0]["picture"] in (1, 2)
    assert [one["picture"] for one in facts["pictures"]] == [1, 2]
    assert sum(one["share"] for one in facts["pictures"]) == pytest.approx(1, abs=1e-3)
    assert 0 <= facts["change"]["mean"] <= facts["change"]["p95"] <= facts["change"]["max"] <= 1


def test_a_head_without_memory_still_tells_what_changed(head: Head, backbone: Backbone, picture: Pictures) -> None:
    ours = explain(picture(2), head=head, backbone=backbone)
    made = explain(picture(2), head=forget(head), backbone=backbone)
    assert ours.remembers and not made.remembers and made.shares == ()
    assert torch.equal(made.change, ours.change)
    assert int(made.picture.max()) == -1 and made.uses[0].picture == -1
    assert made.facts()["pictures"] == [] and "picture" not in json.dumps(made.facts()["patches"])


def test_a_head_that_lost_only_its_small_copies_still_has_a_map(red_and_blue: Head, backbone: Backbone) -> None:
    made = explain(halves_photo(), head=replace(red_and_blue, thumbnails=()), backbone=backbone)
    assert made.remembers and float(made.place.max()) <= 1 and float(made.place.min()) >= 0


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (50, 7), (97, 131)])
def test_any_photo_can_be_explained(head: Head, backbone: Backbone, picture: Pictures, size: tuple[int, int]) -> None:
    made: Explanation = explain(picture(2, *size), head=head, backbone=backbone)
    assert made.picture.shape == made.result.shape[-2:]
    assert int(made.picture.min()) == 0


def test_a_head_of_another_backbone_is_refused(head: Head, backbone: Backbone, picture: Pictures) -> None:
    with pytest.raises(CompatibilityError):
        explain(picture(2), head=replace(head, backbone="0" * 12), backbone=backbone)
