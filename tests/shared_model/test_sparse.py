"""Positions of the largest numbers: the same back, in a length that says nothing, and nothing else is read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import CompatibilityError
from shared_model.sparse import kept, largest, pack_positions, positions_nbytes, unpack_positions


@st.composite
def places(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    size = draw(st.integers(1, 300))
    chosen = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size))
    return np.array(sorted(chosen)), size


@settings(max_examples=300, deadline=None)
@given(places())
def test_positions_come_back_from_a_length_that_is_known_before(case: tuple[np.ndarray, int]) -> None:
    positions, size = case
    data = pack_positions(positions, size=size)
    assert data.dtype == np.uint8 and len(data) == positions_nbytes(size, count=len(positions))
    assert np.array_equal(unpack_positions(data, size=size, count=len(positions)), positions)


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 120), st.data())
def test_bytes_are_refused_or_are_what_would_be_written(size: int, data: st.DataObject) -> None:
    """There is one way to write a choice, so nothing can be hidden in how it is written."""
    count = data.draw(st.integers(1, size))
    found = np.frombuffer(data.draw(st.binary(min_size=0, max_size=40)), np.uint8)
    try:
        positions = unpack_positions(found, size=size, count=count)
    except CompatibilityError:
        return
    assert len(positions) == count and positions[0] >= 0 and positions[-1] < size and (np.diff(positions) > 0).all()
    assert np.array_equal(pack_positions(positions, size=size), found)


@settings(max_examples=300, deadline=None)
@given(places(), st.data())
def test_a_bit_that_changed_is_refused_or_another_choice(case: tuple[np.ndarray, int], data: st.DataObject) -> None:
    positions, size = case
    written = pack_positions(positions, size=size)
    if not len(written):
        return
    bits = np.unpackbits(written)
    bits[data.draw(st.integers(0, len(bits) - 1))] ^= 1
    try:
        found = unpack_positions(np.packbits(bits), size=size, count=len(positions))
    except CompatibilityError:
        return
    assert len(found) == len(positions) and found[-1] < size and (np.diff(found) > 0).all()
    assert not np.array_equal(found, positions)


def bits(*parts: str) -> np.ndarray:
    text = "".join(parts)
    return np.packbits(np.array([int(bit) for bit in text], np.uint8))


#: Two positions of ten: two low bits each, then marks: 2 + (9 >> 2) = 4 of them.
HOSTILE = {
    "the same position twice": bits("01", "01", "1100"),
    "falling": bits("11", "00", "1100"),
    "beyond the end": bits("00", "11", "0101"),
    "one too few": bits("00", "00", "1000"),
    "one too many": bits("00", "00", "1110"),
    "none": bits("00", "00", "0000"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_positions_are_refused(name: str) -> None:
    assert positions_nbytes(10, count=2) == len(HOSTILE[name]) == 1
    with pytest.raises(CompatibilityError):
        unpack_positions(HOSTILE[name], size=10, count=2)


def test_bits_in_the_padding_are_refused() -> None:
    for size, count in ((21, 2), (21, 15)):
        written = pack_positions(np.arange(count), size=size)
        assert unpack_positions(written, size=size, count=count).tolist() == list(range(count))
        written[-1] |= 1
        with pytest.raises(CompatibilityError):
            unpack_positions(written, size=size, count=count)


def test_as_many_as_asked_for_whatever_the_numbers_are() -> None:
    assert kept(10, share=0.01) == 1 and kept(10, share=0.11) == 2 and kept(10, share=1.0) == 10
    for vector in (torch.zeros(7), torch.ones(7), torch.tensor([0.0, -5, 1, 2, 0, 0, 0])):
        assert len(largest(vector, share=0.5)) == len(set(largest(vector, share=0.5).tolist())) == 4
    assert largest(torch.tensor([1.0, -5, 2, 0.5]), share=0.5).tolist() == [1, 2], "by magnitude, ascending"


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.2, 0.5, 0.9])
def test_the_length_is_near_the_best_that_any_code_can_do(share: float) -> None:
    size = 582_000
    count = kept(size, share=share)
    choices = math.lgamma(size + 1) - math.lgamma(count + 1) - math.lgamma(size - count + 1)
    best = choices / math.log(2) / 8
    assert best < positions_nbytes(size, count=count) < best + count / 8, "less than a bit for each number more"
    assert positions_nbytes(size, count=count) <= -(-size // 8), "never more than a bitmap"
