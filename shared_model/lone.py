"""One process at a time: a locked file that holds the number of the process that locked it.

The kernel lets go of the lock when the process ends, however it ends, so nothing stale is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["alone", "holder"]


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock at ``path``, with this process's number in it, as long as the block lasts.

    Raises
    ------
    BlockingIOError
        If another process holds it; see :func:`holder`.
    OSError
        If the file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(path: Path) -> int | None:
    """Return the number of the process that holds the lock at ``path``, or None.

    Raises
    ------
    OSError
        If the file is there and cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(handle)
    return None
