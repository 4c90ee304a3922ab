"""Generator, style encoder, discriminator: shapes, privacy-safe layers, trunks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from shared_model.backbone import Backbone
from shared_model.config import TRUNKS, ModelConfig
from shared_model.generator import modulation_size


@pytest.mark.parametrize("trunk", TRUNKS)
def test_shapes(trunk: str, small_model: ModelConfig) -> None:
    backbone = Backbone(dataclasses.replace(small_model, trunk=trunk))
    x = torch.rand(2, 3, 32, 48)
    code = backbone.encode(x)
    assert code.shape == (2, modulation_size(backbone.config))
    assert backbone.paint(x, x, code, torch.randn(2, 1, 32, 48)).shape == x.shape
    assert backbone.discriminator(x, backbone.discriminator.embed(x)).shape == (2, 8 * 12 + 4 * 6)


def test_trunks_differ_in_what_they_compute_not_in_size(small_model: ModelConfig) -> None:
    x = torch.rand(1, 3, 16, 16)
    noise, outputs = torch.randn(1, 1, 16, 16), []
    for trunk in TRUNKS:
        backbone = Backbone(dataclasses.replace(small_model, trunk=trunk), seed=3)
        outputs.append(backbone.paint(x, x, backbone.encode(x), noise))
    assert not torch.allclose(outputs[0], outputs[1])


def test_a_fresh_generator_starts_near_the_draft(backbone: Backbone) -> None:
    colored, draft = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        painted = backbone.paint(colored, draft, backbone.encode(draft), torch.randn(1, 1, 32, 32))
    assert float((painted - draft).abs().mean()) < 0.5 * float((colored - draft).abs().mean())


def test_a_fresh_critic_does_not_lose_what_it_sees_from_layer_to_layer() -> None:
    """PyTorch's own initialization makes features four times smaller, and the critic learns nothing for long."""
    critic = Backbone(seed=1).discriminator
    with torch.no_grad():
        fine, coarse = critic._features(torch.rand(2, 3, 64, 64))
    assert float(coarse.std()) > 0.5 * float(fine.std()) > 0.1


def test_every_layer_is_safe_for_private_training(backbone: Backbone) -> None:
    assert list(backbone.buffers()) == []
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.modules())


def test_samples_do_not_see_each_other(backbone: Backbone) -> None:
    x, noise = torch.rand(3, 3, 32, 32), torch.randn(1, 1, 32, 32)
    together = backbone.paint(x, x, backbone.encode(x), noise.expand(3, -1, -1, -1))
    alone = backbone.paint(x[1:2], x[1:2], backbone.encode(x[1:2]), noise)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_the_default_has_the_size_that_the_design_names() -> None:
    assert 500_000 <= sum(p.numel() for p in Backbone().parameters()) <= 1_500_000


def test_initial_weights_follow_the_seed_and_leave_the_global_state_alone(small_model: ModelConfig) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (Backbone(small_model, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [b.generator.enter.weight for b in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
