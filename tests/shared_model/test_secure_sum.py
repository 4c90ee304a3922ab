"""Whole numbers, noise shares and masks: sums are right, never wrap, and show nothing else."""

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared_model.errors import PrivacyError
from shared_model.secure_sum import Ring, add_pair_mask, commitment, decode, encode, expand

SIZE = 4096


def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60),
    st.floats(1e-3, 10.0),
    st.integers(1, 2000),
    st.floats(0.0, 5.0),
)
def test_an_encoded_update_is_inside_its_clip_in_whole_numbers(
    numbers: list[float], clip: float, capacity: int, noise: float
) -> None:
    share = 0.0 if noise < 0.01 else noise * clip
    ring = Ring(size=len(numbers), capacity=capacity, clip=clip, share_std=share)
    words = encode(torch.tensor(numbers), ring, normal=no_noise)
    assert float(decode(words, ring).norm()) <= clip
    bounded = torch.tensor(numbers).double()
    bounded *= min(1.0, (clip - ring.rounding) / max(float(bounded.norm()), 1e-30))
    assert float((decode(words, ring) - bounded).norm()) <= 1.1 * ring.rounding + 1e-6 * clip


def test_rounding_is_unbiased_and_uses_the_operating_system() -> None:
    ring = Ring(size=SIZE, capacity=1000, clip=1.0, share_std=0.0)
    delta = torch.full((SIZE,), 0.3 * ring.step)
    torch.manual_seed(0)
    first = encode(delta, ring)
    torch.manual_seed(0)
    assert not np.array_equal(first, encode(delta, ring))
    assert abs(float(first.mean()) - 0.3) < 6 * math.sqrt(0.21 / SIZE)


@pytest.mark.parametrize("count", [1, 3, 100])
def test_sums_never_wrap_even_at_the_extremes(count: int) -> None:
    """Every device puts its whole clip and the largest possible noise into one coordinate."""
    ring = Ring(size=10, capacity=count, clip=1.0, share_std=0.7)

    def extreme(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        return torch.full(shape, 17.4 * std, dtype=torch.float64)

    one = torch.zeros(10)
    one[0] = 5.0
    total = np.zeros(10, np.uint32)
    for _ in range(count):
        total += encode(one, ring, normal=extreme)
    assert float(decode(total, ring)[0]) == pytest.approx(count * (1.0 + 17.4 * 0.7), rel=1e-6)
    # The grid is as fine as this allows: half the step would wrap.
    assert count * (1.0 + 18 * 0.7) / (ring.step / 2) > 2**31 - 2 * count - 2


def test_noise_shares_add_up_to_the_whole_noise() -> None:
    needed, std = 16, 2.5
    ring = Ring(size=SIZE, capacity=20, clip=1.0, share_std=std / math.sqrt(needed))
    for count in (16, 20):
        total = np.zeros(SIZE, np.uint32)
        for _ in range(count):
            total += encode(torch.zeros(SIZE), ring)
        values = decode(total, ring).numpy()
        expected = std * math.sqrt(count / needed)
        low, high = (stats.chi2.ppf(p, SIZE) for p in (1e-6, 1 - 1e-6))
        assert low < (values**2).sum() / expected**2 < high
        assert stats.kstest(values / expected, "norm").pvalue > 1e-4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"1000000 devices are too many .*% of the clip"):
        Ring(size=630_000, capacity=1_000_000, clip=1.0, share_std=0.0)
    with pytest.raises(PrivacyError, match="too small"):
        Ring(size=10, capacity=10, clip=1.0, share_std=1e-8)
    with pytest.raises(PrivacyError, match="cannot add"):
        Ring(size=0, capacity=3, clip=1.0, share_std=0.0)
    ring = Ring(size=2, capacity=3, clip=1.0, share_std=0.0)
    with pytest.raises(PrivacyError, match="not finite"):
        encode(torch.tensor([1.0, torch.nan]), ring)
    with pytest.raises(PrivacyError, match="3 numbers"):
        encode(torch.zeros(3), ring)
    # The documented cohorts fit with the shipped backbone's size.
    assert Ring(size=630_000, capacity=1000, clip=1.0, share_std=0.05).rounding < 0.002


def test_masks_are_uniform_independent_and_reproducible() -> None:
    seed = os.urandom(32)
    mask = expand(seed, "a", size=1 << 16)
    assert np.array_equal(mask, expand(seed, "a", size=1 << 16))
    counts = np.bincount(mask.view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6
    other = expand(seed, "b", size=1 << 16)
    assert abs(np.corrcoef(mask, other)[0, 1]) < 6 / 256
    with pytest.raises(PrivacyError, match="16 bytes"):
        expand(b"short", "a", size=4)


def test_pair_masks_cancel_and_need_two() -> None:
    secret, words = os.urandom(32), np.arange(8, dtype=np.uint32)
    one = add_pair_mask(words, secret, context="r", own=3, other=7)
    two = add_pair_mask(words, secret, context="r", own=7, other=3)
    assert not np.array_equal(one, words)
    assert np.array_equal(one + two, words + words)
    assert not np.array_equal(one + add_pair_mask(words, secret, context="s", own=7, other=3), words + words)
    with pytest.raises(PrivacyError, match="itself"):
        add_pair_mask(words, secret, context="r", own=3, other=3)


def test_a_commitment_binds_seed_and_attempt() -> None:
    assert commitment(b"x" * 32, context="a") != commitment(b"x" * 32, context="b")
    assert commitment(b"x" * 32, context="a") != commitment(b"y" * 32, context="a")


def test_why_flowers_mask_generator_is_not_used() -> None:
    """Flower 1.41 folds a 256-bit key into 32 bits: other keys give the same "secret" mask."""
    utils = pytest.importorskip("flwr.common.secure_aggregation.secaggplus_utils")
    key = bytes(range(32))
    forged = bytes(28) + bytes(np.bitwise_xor.reduce(np.frombuffer(key, np.uint8).reshape(8, 4)))
    masks = [utils.pseudo_rand_gen(item, 1 << 32, [(64,)])[0] for item in (key, forged)]
    assert key != forged
    assert np.array_equal(masks[0], masks[1])
