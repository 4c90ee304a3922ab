"""Freed memory is kept: an array of some megabytes costs its page faults once."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, numpy as np
from simulations.allocator import keep_freed_memory
{keep}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 20).sum(); np.ones(1 << 20).sum()
before = faults()
for _ in range(20): np.ones(1 << 20).sum()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told so")
def test_an_array_of_some_megabytes_is_mapped_once_and_not_for_every_device() -> None:
    found = []
    for keep in ("", "assert keep_freed_memory()"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(keep=keep)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found.append(int(run.stdout))
    assert found[1] < 1000, "20 arrays of 8 MiB have 40 960 pages"
    assert found[1] <= found[0]


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from simulations.allocator import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
