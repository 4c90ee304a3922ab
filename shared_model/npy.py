"""Numbers as the bytes of NumPy's file format and back, with fewer copies than NumPy makes: one each way, or none.

A header is written and read by NumPy; equal ones are worked out once, since a round has thousands of them.
"""

from __future__ import annotations

import functools
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NpyFrame", "npy_bytes", "npy_copy", "npy_header", "npy_view"]

_MAGIC = b"\x93NUMPY\x01\x00"


class NpyFrame:
    """An array that is changed inside the bytes it came in: one copy at first, none when it is sent on.

    Parameters
    ----------
    data
        What `npy_bytes` or ``numpy.save`` made of an array; left as it is.

    Attributes
    ----------
    values
        The array, equal to that in ``data`` at first; to be changed before `close`, and gone after it.

    Raises
    ------
    ValueError
        If the bytes are of another format, or too few or too many.

    Examples
    --------
    >>> frame = NpyFrame(npy_bytes(np.ones(3)))
    >>> frame.values *= 2.0
    >>> npy_copy(frame.close())
    array([2., 2., 2.])
    """

    def __init__(self, data: bytes) -> None:
        seen = npy_view(data)
        self._stream = io.BytesIO(data)
        whole = np.frombuffer(self._stream.getbuffer(), np.uint8)
        self.values: NDArray[Any] = whole[len(data) - seen.nbytes :].view(seen.dtype).reshape(seen.shape)

    def close(self) -> bytes:
        """Return what ``numpy.save`` would write of the array; it is copied only where something still looks at it."""
        del self.values
        return self._stream.getvalue()


def npy_bytes(values: NDArray[Any]) -> bytes:
    """Return what ``numpy.save`` would write of an array.

    Examples
    --------
    >>> npy_copy(npy_bytes(np.arange(3)))
    array([0, 1, 2])
    """
    whole = np.ascontiguousarray(values)
    return b"".join((_header_of(whole.dtype, whole.shape), whole.data.cast("B") if whole.size else b""))


def npy_header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Read the header of bytes that `npy_bytes` or ``numpy.save`` made; nothing is said about what follows it.

    Returns
    -------
    shape, dtype
        Of the array, whose numbers lie in C's order.
    start
        Where they begin.

    Raises
    ------
    ValueError
        If it is of another format, or not of plain numbers in order.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("not version 1.0 of NumPy's format")
    start = len(_MAGIC) + 2 + int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 2], "little")
    shape, dtype = _parsed(data[len(_MAGIC) : start])
    return shape, dtype, start


def npy_view(data: bytes) -> NDArray[Any]:
    """Look at the array in bytes that `npy_bytes` or ``numpy.save`` made: nothing is copied, nothing can be changed.

    Raises
    ------
    ValueError
        If they are of another format, or too few or too many.
    """
    shape, dtype, start = npy_header(data)
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data) - start} bytes are not {shape} of {dtype}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def npy_copy(data: bytes) -> NDArray[Any]:
    """Read an array of plain numbers from bytes that `npy_bytes` or ``numpy.save`` made.

    Raises
    ------
    ValueError
        If they are of another format, or too few or too many.
    """
    return npy_view(data).copy()


@functools.lru_cache(maxsize=32)
def _header_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return everything that comes before the numbers."""
    stream = io.BytesIO()
    like = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, (0,) * len(shape), writeable=False)
    facts = {**np.lib.format.header_data_from_array_1_0(like), "fortran_order": False}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


@functools.lru_cache(maxsize=32)
def _parsed(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read a header without its magic string."""
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except Exception as error:  # of the tokenizer and the parser too: the bytes come from outside
        raise ValueError(f"not a header of NumPy's format: {error}") from error
    if dtype.hasobject or dtype.itemsize == 0 or (fortran and len(shape) > 1) or min(shape, default=0) < 0:
        raise ValueError(f"not plain numbers in order: {dtype} {shape}")
    return shape, dtype
