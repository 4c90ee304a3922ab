"""The attacks: right on cases with a known answer, and really run on a small backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.local_settings import LocalSettings
from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError
from shared_model.records import Batch
from shared_model.split import flatten
from simulations.audit.attacks import AttackConfig
from simulations.audit.inversion import invert, likeness
from simulations.audit.membership import attack_members, auc_of, outcome_of
from simulations.audit.victims import SIGHTS, Sights, record_gradient

TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)


def records(count: int) -> Batch:
    generator = torch.Generator().manual_seed(3)
    pictures = [torch.rand(count, 3, 48, 48, generator=generator) for _ in range(5)]
    return Batch(*pictures[:5], restyle=torch.zeros(count))


def test_auc_of_known_scores() -> None:
    assert auc_of(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auc_of(np.array([1.0]), np.array([1.0, 1.0])) == 0.5
    assert auc_of(np.array([0.0, 2.0]), np.array([1.0])) == 0.5


def test_leaking_scores_are_found_and_noise_is_not() -> None:
    dice = np.random.default_rng(0)
    member = np.arange(200)[None, :] % 10 == np.arange(10)[:, None]
    noise = dice.normal(size=(10, 200))
    told = outcome_of("x", (noise + 5.0 * member)[None], member, fpr=0.01, seed=0)
    blind = outcome_of("x", noise[None], member, fpr=0.01, seed=0)
    assert told.auc > 0.99 and told.tpr > 0.9 and told.auc_low > 0.95
    assert blind.auc_low < 0.5 < blind.auc_high or abs(blind.auc - 0.5) < 0.08
    assert (told.members, told.others) == (200, 1800)


def test_noise_that_a_devices_scores_share_averages_out_over_releases() -> None:
    """The trap of one release: the noise moves all members of a device together."""
    dice = np.random.default_rng(1)
    member = np.arange(40)[None, :] % 10 == np.arange(10)[:, None]
    alike = np.arange(40) % 10  # a device's own records resemble each other
    shared = dice.normal(size=(64, 10, 10))[:, :, alike]
    once = [outcome_of("x", shared[i : i + 1], member, fpr=0.01, seed=0).auc for i in range(64)]
    often = outcome_of("x", shared, member, fpr=0.01, seed=0)
    assert max(abs(auc - 0.5) for auc in once) > 0.15  # what one release may well say
    assert abs(often.auc - 0.5) < 0.05 and often.releases == 64


def test_a_record_gradient_is_the_gradient_of_the_flat_vector() -> None:
    backbone = Backbone(TINY)
    draws = objective.draw(torch.Generator().manual_seed(0), size_px=48)
    found = record_gradient(backbone, records(1), draws)
    assert found.shape == flatten(backbone).shape
    assert bool(torch.isfinite(found).all()) and float(found.norm()) > 0.0


def test_likeness_is_a_correlation() -> None:
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert likeness(picture, 0.5 * picture + 0.1) == pytest.approx(1.0)
    assert likeness(1 - picture, picture) == pytest.approx(-1.0)
    assert likeness(torch.full((1, 3, 16, 16), 0.5), picture) == pytest.approx(0.0, abs=1e-3)


def test_the_search_comes_closer_to_the_observed_gradient() -> None:
    backbone, record = Backbone(TINY), records(1)
    draws = objective.draw(torch.Generator().manual_seed(1), size_px=48)
    observed = -record_gradient(backbone, record, draws)
    first, last = (invert(backbone, record, observed, seed=1, steps=steps) for steps in (1, 15))
    assert last.match > first.match
    assert last.picture.shape == (1, 3, 48, 48) and float(last.picture.min()) >= 0.0


def test_every_sight_is_attacked() -> None:
    local = LocalSettings(steps=1, batch=1, lr=1e-3, critic_lr=1e-3, noise_multiplier=1.0)
    outcomes = attack_members(Backbone(TINY), records(4), devices=2, sights=Sights(local), seed=0, releases=3)
    assert [outcome.releases for outcome in outcomes] == [1, 3, 1]
    assert [outcome.sight for outcome in outcomes] == list(SIGHTS[1:])
    assert all(0.0 <= outcome.auc_low <= outcome.auc_high <= 1.0 for outcome in outcomes)


def test_user_level_noise_is_as_long_as_it_says() -> None:
    local = LocalSettings(steps=1, batch=1, lr=1e-3, critic_lr=1e-3)
    backbone = Backbone(TINY)
    seen = Sights(local, clip=0.5, noise_multiplier=2.0).of(backbone, records(1), seed=0, wanted=SIGHTS[1:3])
    assert float(seen["device update"].double().norm()) <= 0.5
    noise = (seen["user level"] - seen["device update"]).double()
    assert float(noise.square().mean().sqrt()) == pytest.approx(1.0, rel=0.05)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError):
        AttackConfig(devices=1)
