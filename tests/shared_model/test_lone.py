"""One process at a time: held, seen from another process, free again however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared_model.lone import alone, holder

ROOT = Path(__file__).parents[2]


def test_it_is_free_held_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    code = f"import pathlib, sys, time\nfrom shared_model.lone import alone\nwith alone(pathlib.Path({str(path)!r})):\n"
    code += "    print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert holder(path) == process.pid
        with pytest.raises(BlockingIOError), alone(path):
            pytest.fail("two at a time")
    finally:
        process.kill()
        process.communicate()
    assert holder(path) is None
    with alone(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_the_callers_to_explain(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), alone(tmp_path / "gone" / "lock"):
        pytest.fail("locked nothing")
