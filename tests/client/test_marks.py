"""Marks: a file's painting is known again, by its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from client.marks import FIELD, Marks


def test_the_secret_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    first = Marks.of_owner(home)
    assert Marks.of_owner(home) == first and len(first.secret) == 32
    assert stat.S_IMODE((home / "marks.key").stat().st_mode) == 0o600 and stat.S_IMODE(home.stat().st_mode) == 0o700
    assert Marks.of_owner(tmp_path / "other").secret != first.secret
    assert str(first.secret) not in repr(first)


@pytest.mark.parametrize("size", [0, 10, 300_000, 5_000_000])
def test_a_mark_follows_the_content_and_the_secret_not_the_name(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(data)
    ours, theirs = Marks(b"1" * 32), Marks(b"2" * 32)
    mark = ours.of(tmp_path / "a.png")
    assert ours.of(tmp_path / "b.jpg") == mark and theirs.of(tmp_path / "a.png") != mark
    assert not ours.deny(tmp_path / "b.jpg", mark) and theirs.deny(tmp_path / "a.png", mark)
    for place in {0, size // 2, size - 1} if size else ():
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "b.jpg").write_bytes(changed)
        assert ours.deny(tmp_path / "b.jpg", mark)
    (tmp_path / "b.jpg").write_bytes(data + b"x")
    assert ours.deny(tmp_path / "b.jpg", mark)


def test_without_a_secret_or_a_mark_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"photo")
    assert Marks().of(tmp_path / "a.png") == {} and not Marks().deny(tmp_path / "a.png", {FIELD: "0" * 16})
    assert not Marks(b"1" * 32).deny(tmp_path / "a.png", {})  # painted before there were marks
    assert Marks(b"1" * 32).of(tmp_path / "gone.png") == {}
    (tmp_path / "file").write_text("in the way")
    assert Marks.of_owner(tmp_path / "file") == Marks()
    (tmp_path / "marks.key").write_bytes(b"short")
    assert Marks.of_owner(tmp_path) == Marks()
