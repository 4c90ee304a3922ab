"""A hand of one's own: weights moved for one painting, the shared ones untouched."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from client.engine import Engine
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError
from shared_model.head import Head
from shared_model.mix import mix
from shared_model.own_hand import difference, moved, with_change
from shared_model.redact import blur, drop_patches
from shared_model.split import flatten
from shared_model.stylize import stylize

Pictures = Callable[..., Tensor]


@pytest.fixture
def tuned(backbone: Backbone) -> Backbone:
    """A backbone whose generator has moved."""
    other = copy.deepcopy(backbone)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in other.generator.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return other


@pytest.fixture
def own(head: Head, backbone: Backbone, tuned: Backbone) -> Head:
    """A head with the hand of ``tuned``."""
    return dataclasses.replace(head, change=difference(tuned.generator, backbone.generator))


def test_a_head_paints_with_its_own_hand_and_leaves_the_shared_one(
    own: Head, head: Head, backbone: Backbone, tuned: Backbone, picture: Pictures
) -> None:
    before = flatten(backbone)
    photo = picture(1)
    painted = stylize(photo, head=own, backbone=backbone)
    # What the tuned generator itself paints, but for the rounding of the difference to 16 bits.
    wanted = stylize(photo, head=dataclasses.replace(head, backbone=own.backbone), backbone=_like(backbone, tuned, own))
    assert float((painted - wanted).abs().max()) < 2e-3
    assert float((painted - stylize(photo, head=head, backbone=backbone)).abs().max()) > 2e-2
    assert torch.equal(flatten(backbone), before)


def _like(backbone: Backbone, tuned: Backbone, own: Head) -> Backbone:
    """The tuned backbone under the name that heads know."""
    import shared_model.weights as weights

    assert own.backbone == weights.backbone_id(backbone) != weights.backbone_id(tuned)

    class Disguised(Backbone):
        def paint(self, *seen: Tensor, **more: Tensor) -> Tensor:
            return tuned.paint(*seen[:4])

    disguised = Disguised(backbone.config)
    disguised.load_state_dict(backbone.state_dict())
    return disguised


def test_the_engine_and_the_export_take_the_same_hand(own: Head, backbone: Backbone, picture: Pictures) -> None:
    photo = picture(1)
    plain = stylize(photo, head=own, backbone=backbone)
    assert float((Engine(backbone, device="cpu", precision="fp32").stylize(photo, own) - plain).abs().max()) < 1e-4
    assert own.change is not None
    module = with_change(backbone.generator, own.change)
    assert module is not backbone.generator and with_change(backbone.generator, None) is backbone.generator
    weights = moved(backbone.generator, own.change)
    assert all(torch.equal(weight, weights[name]) for name, weight in module.named_parameters())


def test_a_change_of_another_generator_is_refused(own: Head, backbone: Backbone, picture: Pictures) -> None:
    assert own.change is not None
    for wrong in (own.change[:-1], torch.cat([own.change, own.change])):
        with pytest.raises(CompatibilityError, match="hand"):
            stylize(picture(1), head=dataclasses.replace(own, change=wrong), backbone=backbone)


def test_heads_to_give_away_have_no_hand_of_their_own(own: Head) -> None:
    assert blur(own).change is None and drop_patches(own).change is None


def test_mixed_heads_have_a_hand_between_theirs(own: Head, head: Head) -> None:
    assert own.change is not None
    mixed = mix([own, head], [0.25, 0.75])
    assert mixed.change is not None
    assert torch.allclose(mixed.change.float(), 0.25 * own.change.float(), atol=1e-3)
    assert mix([head, head], [1, 1]).change is None
    short = dataclasses.replace(own, change=own.change[:-1])
    with pytest.raises(CompatibilityError, match="cannot be mixed"):
        mix([own, short], [1, 1])
