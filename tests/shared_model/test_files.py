"""Atomic writes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from shared_model.errors import StorageError
from shared_model.files import move_new, read_bytes, write_atomic, write_new


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


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_leaves_alone_what_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", none)
    path = tmp_path / "a.bin"
    assert write_new(path, b"one", mode=0o600) and not write_new(path, b"two")
    (tmp_path / "other").write_bytes(b"three")
    assert not move_new(tmp_path / "other", path)
    assert path.read_bytes() == b"one" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert move_new(tmp_path / "other", tmp_path / "c.bin") and (tmp_path / "c.bin").read_bytes() == b"three"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "c.bin"]


def test_reading_refuses_missing_and_oversized_files(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "a.bin", b"12345")
    assert read_bytes(path, limit=5) == b"12345"
    with pytest.raises(StorageError, match="larger"):
        read_bytes(path, limit=4)
    with pytest.raises(StorageError, match="cannot read"):
        read_bytes(tmp_path / "none")
    with pytest.raises(StorageError):
        read_bytes(tmp_path)
