"""Numbers as the bytes of NumPy's file format and back, with one copy less each way than NumPy makes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["npy_bytes", "npy_copy"]


def npy_bytes(values: NDArray[Any]) -> bytes:
    """Return what ``numpy.save`` would write of an array.

    Examples
    --------
    >>> npy_copy(npy_bytes(np.arange(3)))
    array([0, 1, 2])
    """
    whole = np.ascontiguousarray(values)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(whole))
    return b"".join((stream.getvalue(), whole.data.cast("B") if whole.size else b""))


def npy_copy(data: bytes) -> NDArray[Any]:
    """Read an array of plain numbers from bytes that `npy_bytes` or ``numpy.save`` made.

    Raises
    ------
    ValueError
        If they are of another format, or too few or too many.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not version 1.0 of NumPy's format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or (fortran and len(shape) > 1):
        raise ValueError(f"not plain numbers in order: {dtype}")
    values: NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).copy()
    return values
