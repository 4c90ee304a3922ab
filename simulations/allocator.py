"""The C library's allocator, told to keep what is freed: a simulation needs it again for the next device."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_KEPT = 512 << 20  # bytes of freed memory that a process may hold
_LARGEST = 32 << 20  # glibc takes no larger threshold for memory of its own


def keep_freed_memory() -> bool:
    """Keep freed blocks up to 32 MiB, 512 MiB of them, in this process for as long as it lives.

    glibc maps every array of some megabytes anew and gives it back when it is freed, so that each device of
    a simulation pays for the page faults of the same few arrays: a third of its time with a million
    parameters (docs/performance.md). Results do not change, nor does the peak of memory that is in use.

    Returns
    -------
    bool
        Whether it took effect; never on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, such as musl
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
