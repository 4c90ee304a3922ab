"""Adaptive clipping against its paper, against the direction that others get wrong, and its price."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.adaptive_clip import SMALLEST, joint_noise, next_clip, share_within, update_noise
from shared_model.errors import PrivacyError
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon


@given(st.floats(0.05, 20.0), st.floats(0.51, 1e4))
def test_the_split_is_that_of_the_paper_and_adds_up_to_what_is_accounted(noise: float, ratio: float) -> None:
    count = noise * ratio
    updates = update_noise(noise, count)
    assert updates == pytest.approx((noise**-2 - (2 * count) ** -2) ** -0.5, rel=1e-6)
    assert updates >= noise
    assert joint_noise(updates, count) == pytest.approx(noise, rel=1e-6)


def test_one_device_moves_update_and_bit_together_by_at_most_the_joint_sensitivity() -> None:
    """Each presence or absence, bit, and an update of any length up to the clip, in units of the noise."""
    noise, count, clip = 1.3, 4.0, 0.7
    updates = update_noise(noise, count)
    moved = [
        math.hypot(length / (updates * clip), bit / count)
        for length, bit in itertools.product(np.linspace(0.0, clip, 9), (-0.5, 0.5))
    ]
    assert max(moved) == pytest.approx(1.0 / noise)
    # Two Gaussian steps at full sampling, one per release, cost what the one that is accounted costs.
    both = [(Mechanism(updates, 1.0, "user"), 1), (Mechanism(2 * count, 1.0, "user"), 1)]
    assert epsilon(both, delta=1e-5) == pytest.approx(epsilon([(Mechanism(noise, 1.0, "user"), 1)], delta=1e-5))


def test_bits_that_would_cost_everything_are_refused_with_numbers() -> None:
    for count in (0.0, 0.3, 0.5):
        with pytest.raises(PrivacyError, match=r"must be above 0\.5"):
            update_noise(1.0, count)
    assert update_noise(0.0, 0.0) == joint_noise(0.0, 0.0) == 0.0
    assert joint_noise(1.0, 0.0) == 0.0


def test_the_clip_grows_while_updates_are_cut_and_falls_while_none_is() -> None:
    """Updates of length 10 and a clip of 0.1: Flower 1.41 shrinks it to 0.005 in 30 rounds."""
    clip, path = 0.1, []
    for _ in range(60):
        within = sum(0.5 if 10.0 <= clip else -0.5 for _ in range(20))
        clip = next_clip(clip, share_within(within, 20), quantile=0.5, rate=0.2, largest=1e3)
        path.append(clip)
    assert all(earlier < later for earlier, later in itertools.pairwise(path[:40]))
    assert 9.0 < path[-1] < 11.1
    assert next_clip(5.0, 1.0, quantile=0.5, rate=0.2, largest=10.0) == pytest.approx(5.0 * math.exp(-0.1))


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
def test_it_settles_at_the_quantile_despite_the_noise(quantile: float) -> None:
    draw = np.random.default_rng(1)
    lengths, clip, seen = draw.lognormal(0.0, 0.6, 400), 0.01, []
    for _ in range(200):
        within = float(np.where(lengths <= clip, 0.5, -0.5).sum()) + draw.normal(0.0, 20.0)
        clip = next_clip(clip, share_within(within, 400), quantile=quantile, rate=0.2, largest=1e3)
        seen.append(clip)
    assert float(np.mean(seen[-50:])) == pytest.approx(float(np.quantile(lengths, quantile)), rel=0.1)


def test_absent_devices_do_not_move_the_clip_at_the_median() -> None:
    assert share_within(0.0, 100) == 0.5
    assert next_clip(1.0, 0.5, quantile=0.5, rate=0.2, largest=2.0) == 1.0


def test_bounds_and_nonsense() -> None:
    assert next_clip(9.0, -50.0, quantile=0.5, rate=1.0, largest=10.0) == 10.0
    assert next_clip(1.0, 1e9, quantile=0.5, rate=1.0, largest=10.0) == SMALLEST
    with pytest.raises(PrivacyError, match="nan"):
        next_clip(1.0, math.nan, quantile=0.5, rate=0.2, largest=1.0)
