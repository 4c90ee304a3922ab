"""Processor time and memory of a process with all that it has started, read from Linux' ``/proc``."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Watch", "cpu_seconds", "family"]

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def family(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def cpu_seconds(root: int) -> float:
    """Return the processor seconds of a process, its living descendants and those that they have waited for."""
    return sum(sum(map(int, fields[11:15])) for pid in family(root) if (fields := _stat(pid))) / _TICK


def _stat(pid: int) -> list[str]:
    """Return what follows the name in ``/proc/PID/stat``: state, parent ...; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory(root: int) -> int:
    """Return the proportional memory of the family in kB: what is shared counts once."""
    total = 0
    for pid in family(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


@dataclass
class Watch:
    """Looks at the memory of a family of processes ten times a second, and keeps the most.

    Parameters
    ----------
    root
        The process that started the others.
    """

    root: int
    peak_mib: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.peak_mib = max(self.peak_mib, _memory(self.root) / 1024)
