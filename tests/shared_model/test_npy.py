"""NumPy's format, written and read with fewer copies."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared_model.npy import NpyFrame, npy_bytes, npy_copy, npy_header, npy_view


@pytest.mark.parametrize(
    "values",
    [np.arange(7, dtype=np.float32), np.ones((2, 3), np.int8), np.zeros(0), np.arange(12).reshape(3, 4)[:, ::2]],
)
def test_the_bytes_are_numpys(values: NDArray[Any]) -> None:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values))
    assert npy_bytes(values) == stream.getvalue()
    again = npy_copy(stream.getvalue())
    assert np.array_equal(again, values) and again.dtype == values.dtype and again.flags.writeable
    seen = npy_view(stream.getvalue())
    assert np.array_equal(seen, values) and not seen.flags.writeable
    frame = NpyFrame(stream.getvalue())
    assert np.array_equal(frame.values, values) and frame.values.dtype == values.dtype
    frame.values[...] = 3
    assert frame.close() == npy_bytes(np.full_like(values, 3)) and np.array_equal(seen, values)


def test_a_view_copies_nothing_and_a_frame_neither() -> None:
    data = npy_bytes(np.arange(1 << 20, dtype=np.float32))
    tracemalloc.start()
    view = npy_view(data)
    assert tracemalloc.get_traced_memory()[1] < 100_000 and view[-1] == (1 << 20) - 1
    frame = NpyFrame(data)
    frame.values += 0.0
    assert frame.close() == data
    assert tracemalloc.get_traced_memory()[1] < 1.2 * len(data)
    tracemalloc.stop()


def test_a_frame_that_is_still_looked_at_gives_the_same_bytes() -> None:
    frame = NpyFrame(npy_bytes(np.zeros(4, np.int8)))
    held = frame.values
    held[:] = 7
    data = frame.close()
    held[:] = 8
    assert npy_view(data).tolist() == [7, 7, 7, 7]


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1") + bytes(16)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "((((",
        "[" * 3000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': ['<f4'], 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4L,)}",
    ],
)
def test_any_hostile_header_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        npy_header(header(text))


def test_other_bytes_are_refused() -> None:
    good = npy_bytes(np.arange(7))
    for bad in (b"", b"nothing of the kind", good[:-1], good[:-8], good + b"x", npy_bytes(np.arange(7))[:20]):
        with pytest.raises(ValueError):
            npy_copy(bad)
        with pytest.raises(ValueError):
            NpyFrame(bad)
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="plain numbers"):
        npy_copy(stream.getvalue())
