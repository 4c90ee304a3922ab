"""Atomic writes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from shared_model.errors import StorageError
from shared_model.files import read_bytes, write_atomic


def test_writes_and_sets_permissions(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "a" / "b.bin", b"one", mode=0o600)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "a.bin", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        write_atomic(path, b"new")
    assert "full" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_interrupt_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "a.bin", b"old")

    def interrupt(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_reading_refuses_missing_and_oversized_files(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "a.bin", b"12345")
    assert read_bytes(path, limit=5) == b"12345"
    with pytest.raises(StorageError, match="larger"):
        read_bytes(path, limit=4)
    with pytest.raises(StorageError, match="cannot read"):
        read_bytes(tmp_path / "none")
    with pytest.raises(StorageError):
        read_bytes(tmp_path)
