"""NumPy's format, written and read with fewer copies."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared_model.npy import npy_bytes, npy_copy


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


def test_other_bytes_are_refused() -> None:
    good = npy_bytes(np.arange(7))
    for bad in (b"", b"nothing of the kind", good[:-1], good[:-8], good + b"x", npy_bytes(np.arange(7))[:20]):
        with pytest.raises(ValueError):
            npy_copy(bad)
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="plain numbers"):
        npy_copy(stream.getvalue())
