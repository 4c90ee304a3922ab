"""Marked processes: ended by their number, and only they."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_model.processes import alive, end_marked, mark

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_marked_process_is_ended_once(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    assert alive(tmp_path / "pid") is None
    mark(tmp_path / "pid", sleeper.pid)
    assert alive(tmp_path / "pid") is True
    assert end_marked(tmp_path / "pid")
    assert sleeper.wait(20) != 0
    assert not end_marked(tmp_path / "pid") and not (tmp_path / "pid").exists()


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        mark(tmp_path / "pid", process.pid)
        start = time.monotonic()
        assert end_marked(tmp_path / "pid", patience_s=0.3)
        assert process.wait(20) == -9 and time.monotonic() - start < 20
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_stranger_with_the_same_number_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    mark(tmp_path / "pid", sleeper.pid)
    number, born = (tmp_path / "pid").read_text().split()
    (tmp_path / "pid").write_text(f"{number} {int(born) + 1}\n")
    assert not end_marked(tmp_path / "pid") and sleeper.poll() is None


@pytest.mark.parametrize("content", ["", "x y", "1", "999999999 5", "-1 0", "1 2 3"])
def test_damaged_marks_mean_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert not end_marked(tmp_path / "pid")
    assert not end_marked(tmp_path / "missing")


def test_one_that_leads_no_session_is_killed_too_and_seen_to_be_gone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"on\n"
        mark(tmp_path / "pid", process.pid)
        kept = (tmp_path / "pid").read_text()
        assert end_marked(tmp_path / "pid", patience_s=0.3)
        assert process.wait(20) == -9
        (tmp_path / "pid").write_text(kept)
        assert alive(tmp_path / "pid") is False
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
