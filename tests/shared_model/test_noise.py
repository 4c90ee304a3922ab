"""Noise from the operating system, and the clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.discrete import lattice, width
from shared_model.errors import PrivacyError
from shared_model.noise import clip, norm, secure_bernoulli, secure_normal, secure_uniform


def test_noise_is_standard_normal() -> None:
    draws = secure_normal((200_000,), std=2.5)
    assert draws.dtype == torch.float64
    assert float(draws.mean()) == pytest.approx(0.0, abs=0.04)
    assert float(draws.std()) == pytest.approx(2.5, rel=0.02)
    scaled = draws / 2.5
    assert float((scaled**4).mean()) == pytest.approx(3.0, rel=0.08)
    for threshold, tail in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
        assert float((scaled.abs() > threshold).double().mean()) == pytest.approx(tail, abs=0.006)


def test_no_seed_reproduces_noise() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    first = secure_normal((64,), std=1.0)
    torch.manual_seed(0)
    np.random.seed(0)
    assert not torch.equal(first, secure_normal((64,), std=1.0))


def test_neighbors_and_chunks_are_independent() -> None:
    draws = secure_normal((600_001,), std=1.0)
    half = len(draws) // 2
    for lag in (1, half, 131_072, 262_144):
        correlation = float((draws[:-lag] * draws[lag:]).mean())
        assert abs(correlation) < 0.012


def test_noise_is_whole_steps_of_its_lattice_and_never_too_little() -> None:
    for std in (0.7, 1e-6, 3e4):
        draws = secure_normal((2000,), std=std)
        steps = draws / lattice(std)
        assert torch.equal(steps, steps.round())
        assert float(steps.abs().max()) < 2.0**53
        assert width(std) * lattice(std) >= std


def test_shapes_and_zero_deviation() -> None:
    assert secure_normal((2, 3, 5), std=1.0).shape == (2, 3, 5)
    assert secure_normal((0, 4), std=1.0).shape == (0, 4)
    assert secure_normal((), std=1.0).shape == ()

    def forbidden(count: int) -> bytes:
        raise AssertionError(count)

    assert torch.equal(secure_normal((7,), std=0.0, entropy=forbidden), torch.zeros(7, dtype=torch.float64))


@pytest.mark.parametrize("std", [-1.0, math.inf, math.nan, 1e-300])
def test_bad_deviation_is_refused(std: float) -> None:
    with pytest.raises(PrivacyError):
        secure_normal((3,), std=std)


def test_uniforms_and_coins() -> None:
    uniforms = secure_uniform(100_000)
    assert 0.0 < uniforms.min() and uniforms.max() <= 1.0
    assert uniforms.mean() == pytest.approx(0.5, abs=0.01)
    assert secure_bernoulli(100_000, rate=0.2).mean() == pytest.approx(0.2, abs=0.01)
    assert secure_bernoulli(50, rate=1.0).all()
    assert not secure_bernoulli(50, rate=0.0).any()
    assert secure_bernoulli(0, rate=0.5).shape == (0,)
    with pytest.raises(PrivacyError):
        secure_bernoulli(3, rate=1.1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e30, 1e30, allow_nan=False), max_size=40),
    st.floats(1e-6, 1e6),
)
def test_clip_never_leaves_the_ball(numbers: list[float], bound: float) -> None:
    clipped = clip(torch.tensor(numbers, dtype=torch.float32), bound=bound)
    assert norm(clipped) <= bound


def test_clip_keeps_direction_and_what_is_inside() -> None:
    vector = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    clipped = clip(vector, bound=1.0)
    assert norm(clipped) == pytest.approx(1.0, rel=1e-6)
    assert float(torch.nn.functional.cosine_similarity(vector, clipped, dim=0)) == pytest.approx(1.0, abs=1e-6)
    inside = clip(vector, bound=1e3)
    assert torch.equal(inside, vector)
    assert inside.data_ptr() != vector.data_ptr()


def test_clip_edge_cases() -> None:
    assert torch.equal(clip(torch.zeros(5), bound=1.0), torch.zeros(5))
    assert clip(torch.zeros(0), bound=1.0).shape == (0,)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(PrivacyError, match="not finite"):
            clip(torch.tensor([1.0, bad]), bound=1.0)
    for bound in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="bound"):
            clip(torch.ones(2), bound=bound)
    assert norm(clip(torch.full((4,), 1e200, dtype=torch.float64), bound=1.0)) <= 1.0
