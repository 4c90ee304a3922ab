"""Losses: per sample, zero where they must be, larger where things get worse."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model import adversarial, losses, objective
from shared_model.backbone import Backbone
from shared_model.config import ADVERSARIAL, LossConfig
from shared_model.errors import ConfigError
from shared_model.records import Batch

Pictures = Callable[..., Tensor]
KINDS = tuple(kind for kind in ADVERSARIAL if kind != "none")


def _draws(size_px: int = 48) -> objective.Draws:
    return objective.draw(torch.Generator().manual_seed(0), size_px=size_px)


def test_losses_of_a_picture_with_itself_are_zero(picture: Pictures) -> None:
    x, draws = picture(1), _draws()
    for value in (
        losses.structure(x, x),
        losses.keep(x, x, x),
        losses.tone(x, x),
        losses.restore(x, x),
        losses.gamut(x),
        losses.sliced_patches(x, x, draws.patches, 0),
        losses.sliced_bands(x, x, draws.bands, 0),
        losses.marks(x, x, draws.marks_first, draws.marks_second),
    ):
        assert value.shape == (1,) and float(value) == pytest.approx(0, abs=1e-6)


def test_structure_is_a_constraint_with_a_tolerance(picture: Pictures) -> None:
    photo, noise = picture(1), torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    slight, other = (photo + 0.005 * noise).clamp(0, 1), picture(2)
    assert float(losses.structure(slight, photo)) == pytest.approx(0, abs=0.02)
    assert float(losses.structure(other, photo)) > 0.2


def test_structure_ignores_a_change_of_tone(picture: Pictures) -> None:
    photo = picture(1)
    assert float(losses.structure(0.2 + 0.5 * photo, photo)) < 0.05


def test_style_losses_prefer_the_same_painting(picture: Pictures) -> None:
    """Another crop of the same texture must be closer than a smooth picture."""
    texture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    smooth, draws = picture(1, 64, 64), _draws()
    for loss in (
        lambda a, b: losses.sliced_patches(a, b, draws.patches, 1),
        lambda a, b: losses.sliced_bands(a, b, draws.bands, 1),
        lambda a, b: losses.marks(a, b, draws.marks_first, draws.marks_second),
    ):
        assert float(loss(texture[:1], texture[1:])) < 0.5 * float(loss(smooth, texture[1:]))


def test_gamut_counts_only_what_leaves_the_range() -> None:
    x = torch.tensor([0.0, 1.0, 1.5, -0.5]).view(1, 1, 2, 2)
    assert float(losses.gamut(x)) == pytest.approx((0.25 + 0.25) / 4)


def test_every_term_is_per_sample(backbone: Backbone, records: Batch) -> None:
    """A record's losses must not change with its neighbours: the private step depends on it."""
    draws = _draws()
    together, output = objective.generator_terms(backbone, records, draws, loss=LossConfig())
    critic = objective.discriminator_loss(backbone, records, output.detach(), draws, loss=LossConfig(), penalty=True)
    for index in range(len(records)):
        one = records.select([index])
        alone, own = objective.generator_terms(backbone, one, draws, loss=LossConfig())
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][index], atol=2e-5, rtol=1e-3)
        value = objective.discriminator_loss(backbone, one, own.detach(), draws, loss=LossConfig(), penalty=True)
        torch.testing.assert_close(value[0], critic[index], atol=2e-5, rtol=1e-3)


def test_the_kind_of_record_decides_which_terms_count(backbone: Backbone, records: Batch) -> None:
    restyle = Batch(*records.tensors()[:-1], torch.ones(len(records)))
    for batch, zero in ((records, ("restore",)), (restyle, ("structure", "keep", "tone"))):
        terms, _ = objective.generator_terms(backbone, batch, _draws(), loss=LossConfig())
        assert all(float(terms[name].detach().abs().max()) == 0 for name in zero)
        assert float(terms["patches"].detach().min()) > 0


def test_adversarial_losses_at_known_logits() -> None:
    real, fake = torch.tensor([[2.0, 0.0]]), torch.tensor([[-2.0, 0.0]])
    expected = {"hinge": 1.0, "wasserstein-gp": -2.0, "lsgan": 3.0, "bce": math.log1p(math.exp(-2)) + math.log(2)}
    for kind, value in expected.items():
        assert float(adversarial.discriminator_loss(kind, real, fake)) == pytest.approx(value, rel=1e-5)
    expected = {"hinge": 1.0, "wasserstein-gp": 1.0, "lsgan": 5.0, "bce": (math.log1p(math.exp(2)) + math.log(2)) / 2}
    for kind, value in expected.items():
        assert float(adversarial.generator_loss(kind, fake)) == pytest.approx(value, rel=1e-5)


def test_an_unknown_adversarial_loss_is_refused() -> None:
    for call in (
        lambda: adversarial.discriminator_loss("gan", torch.zeros(1, 1), torch.zeros(1, 1)),
        lambda: adversarial.generator_loss("gan", torch.zeros(1, 1)),
    ):
        with pytest.raises(ConfigError):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_discriminator_and_generator_pull_in_opposite_directions(kind: str) -> None:
    fake = torch.tensor([[0.3]], requires_grad=True)
    (down,) = torch.autograd.grad(adversarial.discriminator_loss(kind, torch.tensor([[0.5]]), fake).sum(), fake)
    (up,) = torch.autograd.grad(adversarial.generator_loss(kind, fake).sum(), fake)
    assert float(down) > 0 > float(up)


def test_the_gradient_penalty_of_a_linear_critic_is_known() -> None:
    weight = torch.full((3, 2, 2), 0.5)

    def critic(x: Tensor) -> Tensor:
        return (x * weight).sum((1, 2, 3))[:, None]

    x = torch.rand(2, 3, 2, 2)
    squared = float(weight.square().sum())
    penalty = adversarial.gradient_penalty("hinge", critic, x, x, torch.rand(2))
    torch.testing.assert_close(penalty, torch.full((2,), 5 * squared))
    penalty = adversarial.gradient_penalty("wasserstein-gp", critic, x, x, torch.rand(2))
    torch.testing.assert_close(penalty, torch.full((2,), 10 * (squared**0.5 - 1) ** 2))


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_penalties_reach_the_discriminators_weights(kind: str, backbone: Backbone, records: Batch) -> None:
    draws, loss = _draws(), LossConfig(adversarial=kind)
    _, output = objective.generator_loss(backbone, records, draws, loss=loss)
    plain = objective.discriminator_loss(backbone, records, output.detach(), draws, loss=loss)
    strict = objective.discriminator_loss(backbone, records, output.detach(), draws, loss=loss, penalty=True)
    if kind == "none":
        assert float(plain.abs().max()) == 0
        return
    assert bool((strict > plain).all())
    (strict - plain).sum().backward()  # type: ignore[no-untyped-call]
    assert float(backbone.discriminator.first.weight.grad.abs().max()) > 0  # type: ignore[union-attr]
