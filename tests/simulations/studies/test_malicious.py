"""Malicious devices: the clipped mean keeps its bound whatever they send; without a clip nothing holds."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from client.console import Console
from client.local_settings import LocalSettings
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, ModelConfig
from shared_model.errors import InputError
from shared_model.records import Batch
from simulations.studies import malicious
from simulations.studies.attackers import ATTACKS, patched, update_of
from simulations.studies.malicious import Scene, trial

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)
SETTINGS = LocalSettings(steps=1, batch=2, loss=LossConfig(adversarial="none"))


def records(seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    return Batch(*(torch.rand(2, 3, 48, 48, generator=draw) for _ in range(5)), torch.zeros(2))


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Four devices with pictures of nothing: their updates are real ones."""
    return Scene(tuple(records(index) for index in range(4)), records(99), Backbone(TINY).eval(), clip=0.05)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_clipped_mean_is_moved_by_the_bound_at_most(scene: Scene, attack: str) -> None:
    outcome = trial(scene, "mean", attack, malicious=1, rounds=1)
    assert outcome.bound == pytest.approx(0.05 / 4)
    assert 0.0 < outcome.moved <= outcome.bound * (1 + 1e-5)
    assert outcome.dropped == 0
    if attack != "none":
        assert outcome.moved == pytest.approx(outcome.bound, rel=0.02)  # attackers fill the clip: the bound is tight


def test_without_a_clip_one_device_moves_it_a_hundred_times_as_far(scene: Scene) -> None:
    bare = trial(scene, "mean, no clip", "scaled", malicious=1, rounds=1)
    assert bare.bound is None
    assert bare.moved > 50 * trial(scene, "mean, no clip", "none", malicious=1, rounds=1).moved


@pytest.mark.parametrize("strategy", ["median", "krum"])
def test_every_strategy_runs(scene: Scene, strategy: str) -> None:
    outcome = trial(scene, strategy, "sign-flip", malicious=1, rounds=1)
    assert (outcome.strategy, outcome.attack) == (strategy, "sign-flip")
    assert outcome.loss == outcome.loss and outcome.moved >= 0.0


def test_a_flipped_update_is_the_opposite_of_an_honest_one() -> None:
    backbone, own = Backbone(TINY), records(1)
    honest = update_of("none", backbone, own, settings=SETTINGS, seed=3)
    flipped = update_of("sign-flip", backbone, own, settings=SETTINGS, seed=3)
    assert torch.nn.functional.cosine_similarity(honest, flipped, dim=0) == pytest.approx(-1.0, abs=1e-4)
    noisy = update_of("label-noise", backbone, own, settings=SETTINGS, seed=3)
    assert torch.nn.functional.cosine_similarity(honest, noisy, dim=0) < 0.99
    with pytest.raises(InputError, match="attacks are"):
        update_of("bribery", backbone, own, settings=SETTINGS, seed=3)


def test_the_patch_is_in_a_corner_of_all_that_a_generator_sees() -> None:
    own = records(2)
    marked = patched(own)
    for name in ("photo", "colored", "draft"):
        before, after = getattr(own, name), getattr(marked, name)
        assert torch.equal(before[:, :, :-9], after[:, :, :-9])
        assert not torch.equal(before[:, :, -9:, -9:], after[:, :, -9:, -9:])
    assert dataclasses.replace(marked, photo=own.photo, colored=own.colored, draft=own.draft) == own


@pytest.mark.parametrize("arguments", [["--devices", "3"], ["--malicious", "5"], ["--rounds", "0"]])
def test_absurd_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError):
        malicious.run(malicious.parser().parse_args(arguments), Console())
