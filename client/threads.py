"""How torch's threads wait for each other."""

from __future__ import annotations

import os
import sys

__all__ = ["wait_politely"]


def wait_politely() -> None:
    """Let idle threads sleep instead of spinning; to be called before torch is imported.

    OpenMP threads spin between two parallel loops, which costs twice the processor time as soon as anything else runs
    on the machine (measured: 4.2 instead of 2.1 CPU-seconds for one picture on two busy cores). A policy that the user
    has set stays.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
