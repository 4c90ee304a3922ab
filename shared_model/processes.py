"""Processes that outlive whoever started them: marked on the disk, recognized again, ended by their number.

A mark holds a process number and the time at which the kernel started it, so that a number which the
system has given to another process since is left alone. Linux (``/proc``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from shared_model.files import write_atomic

__all__ = ["alive", "end", "end_marked", "mark"]


def mark(path: Path, pid: int) -> None:
    """Write down a process that was just started, for :func:`end_marked`."""
    write_atomic(path, f"{pid} {_born(pid)}\n".encode(), mode=0o600)


def alive(path: Path) -> bool | None:
    """Say whether the process that was marked still runs; None if none is marked."""
    try:
        number, born = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return number.isdigit() and _born(int(number)) == born


def end_marked(path: Path, *, patience_s: float = 20.0) -> bool:
    """End the process that was marked, if it still runs, and remove the mark; True if there was one."""
    try:
        number, born = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    found = number.isdigit() and _born(int(number)) == born
    if found:
        end(int(number), gone=lambda: _born(int(number)) != born, patience_s=patience_s)
    path.unlink(missing_ok=True)
    return found


def end(pid: int, *, gone: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Ask a process to end, wait until ``gone()``, then kill what is left of the session that it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
    last = time.monotonic() + patience_s
    while not gone() and time.monotonic() < last:
        time.sleep(0.1)
    if not gone():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _born(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty if it is gone or a zombie."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] == "Z" else words[19]
