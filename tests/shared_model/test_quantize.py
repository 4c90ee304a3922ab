"""int8 updates: unbiased, small, and never outside the clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import CompatibilityError, PrivacyError
from shared_model.noise import clip, norm
from shared_model.quantize import Quantized, dequantize, quantize


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e20, 1e20, allow_nan=False), max_size=50),
    st.floats(1e-6, 1e6),
    st.integers(2, 8),
)
def test_reconstruction_never_leaves_the_ball(numbers: list[float], bound: float, bits: int) -> None:
    vector = clip(torch.tensor(numbers, dtype=torch.float32), bound=bound)
    result = quantize(vector, bound=bound, bits=bits)
    assert norm(dequantize(result)) <= bound
    assert float(np.float32(result.scale)) == result.scale


def test_a_vector_on_the_sphere_stays_inside_and_close() -> None:
    vector = clip(torch.randn(100_000, generator=torch.Generator().manual_seed(2)), bound=0.7)
    result = quantize(vector, bound=0.7)
    back = dequantize(result)
    assert norm(back) <= 0.7
    assert norm(back - vector) < 0.015 * 0.7
    assert result.nbytes <= 1.1 * vector.numel()


def test_rounding_is_unbiased() -> None:
    vector = torch.tensor([0.1, -0.033, 0.0049, 1.0, 0.0])
    mean = torch.stack([dequantize(quantize(vector, bound=10.0)) for _ in range(3000)]).double().mean(0)
    step = 1.0 / 127
    assert bool(((mean - vector).abs() < 5 * 0.5 * step / math.sqrt(3000)).all())
    assert float(mean[4]) == 0.0


def test_rounding_ignores_torch_seeds() -> None:
    vector = torch.rand(500, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    first = quantize(vector, bound=100.0).values
    torch.manual_seed(0)
    assert not torch.equal(first, quantize(vector, bound=100.0).values)


def test_largest_number_is_a_whole_step() -> None:
    result = quantize(torch.tensor([-2.0, 1.0]), bound=10.0)
    assert int(result.values[0]) == -127
    assert float(dequantize(result)[0]) == pytest.approx(-2.0, rel=1e-6)


def test_edge_cases() -> None:
    for vector in (torch.zeros(6), torch.zeros(0), torch.full((3,), 1e-35)):
        result = quantize(vector, bound=1.0)
        assert result.scale == 0.0
        assert torch.equal(dequantize(result), torch.zeros_like(vector))
    with pytest.raises(PrivacyError, match="not finite"):
        quantize(torch.tensor([math.nan]), bound=1.0)
    with pytest.raises(PrivacyError, match="bits"):
        quantize(torch.ones(2), bound=1.0, bits=9)
    with pytest.raises(PrivacyError, match="bound"):
        quantize(torch.ones(2), bound=0.0)
    assert norm(dequantize(quantize(torch.full((9,), 5.0), bound=1.0))) <= 1.0


def test_foreign_messages_are_refused() -> None:
    with pytest.raises(CompatibilityError, match="int8"):
        dequantize(Quantized(values=torch.ones(3), scale=1.0))
    for scale in (math.nan, math.inf, -1.0):
        with pytest.raises(CompatibilityError, match="scale"):
            dequantize(Quantized(values=torch.ones(3, dtype=torch.int8), scale=scale))
