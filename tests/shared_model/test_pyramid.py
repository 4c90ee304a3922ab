"""Pyramids and color: exact rebuilding, any size, closed-form statistics."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from shared_model.pyramid import bands, box, collapse, halve, pyramid, resize_like


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_bands_and_rest_rebuild_the_picture_at_any_size(height: int, width: int, levels: int) -> None:
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * 41 + width))
    rebuilt = collapse(bands(x, levels), pyramid(x, levels + 1)[-1])
    torch.testing.assert_close(rebuilt, x, atol=1e-5, rtol=0)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 5))
def test_means_of_a_constant_are_the_constant(height: int, width: int, radius: int) -> None:
    x = torch.full((1, 1, height, width), 0.3)
    torch.testing.assert_close(box(x, radius), x)
    assert bool((halve(x) - 0.3).abs().max() < 1e-6)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20))
def test_resizing_channel_by_channel_is_resizing(batch: int, channels: int, height: int, width: int) -> None:
    x = torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(height * 21 + width))
    other = torch.empty(1, 1, 2 * height - 1, 2 * width + 1)
    wanted = torch.nn.functional.interpolate(x, size=other.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize_like(x, other), wanted, atol=1e-6, rtol=0)
