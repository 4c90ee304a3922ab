"""The device's memory between stages: private, forward only, and harmless when it is lost."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.secure_state import FILE, Memory, SecureState
from shared_model.errors import FederationError, StorageError

STATE = SecureState(
    run="r", round=2, attempt="a1b2c3d4", stage="keys", digest="d", needed=3, mask_private="aa", seal_private="bb"
)


def test_it_round_trips_and_is_private(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.load() is None
    full = dataclasses.replace(STATE, holders=(1, 2, 3), mask_keys=("11",), self_seed="cc", sealed=("x",))
    memory.save(full)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert memory.load() == full
    assert memory.expect("keys", attempt="a1b2c3d4") == full


def test_another_stage_or_attempt_is_refused(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    with pytest.raises(FederationError):
        memory.expect("keys", attempt="a1b2c3d4")
    memory.save(STATE)
    for stage, attempt in (("shares", "a1b2c3d4"), ("keys", "ffffffff")):
        with pytest.raises(FederationError):
            memory.expect(stage, attempt=attempt)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": 1}', b'{"unknown": 1}', b"\xff\xfe"])
def test_a_damaged_file_counts_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert Memory(tmp_path).load() is None


def test_secrets_are_wiped(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    secret = dataclasses.replace(STATE, self_seed="5eed" * 8, own_shares=("0a0b", "0c0d"), sealed=("token",))
    memory.save(secret)
    memory.save(secret.without_secrets())
    text = (tmp_path / FILE).read_text()
    for gone in ("5eed", "0a0b", "token", '"aa"', '"bb"'):
        assert gone not in text
    assert json.loads(text)["attempt"] == "a1b2c3d4"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # no temporary file keeps them either


def test_two_processes_take_turns(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom client.secure_state import Memory\n"
        "with Memory(Path(sys.argv[1])).locked():\n    print('in', flush=True)\n    time.sleep(1.0)\n"
    )
    root = Path(__file__).resolve().parents[2]
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        begin = time.monotonic()
        with Memory(tmp_path).locked():
            assert time.monotonic() - begin > 0.3
    assert other.returncode == 0


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot use"), Memory(tmp_path / "gone").locked():
        pass
