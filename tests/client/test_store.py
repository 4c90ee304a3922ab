from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.paths import home_folder
from client.store import Home, check_name
from shared_model.errors import InputError, MissingError, StorageError
from shared_model.head import Head


@pytest.fixture
def home(tmp_path: Path, weights_folder: Path) -> Home:
    return Home(folder=tmp_path / "home", shipped={"tiny": weights_folder / "heads" / "tiny.head"})


def test_saved_head_comes_back(home: Home, tiny_head: Head) -> None:
    saved = home.save_head(tiny_head, name="mine")
    assert saved.size_bytes == saved.path.stat().st_size
    loaded = home.load_head("mine")
    assert (loaded.name, loaded.images, loaded.backbone) == ("tiny", 1, tiny_head.backbone)
    assert torch.equal(loaded.modulation, tiny_head.modulation)
    assert torch.equal(loaded.levels[0].patches, tiny_head.levels[0].patches)
    assert [(head.name, head.shipped) for head in home.heads()] == [("mine", False), ("tiny", True)]


def test_only_the_owner_can_read_what_is_stored(home: Home, tiny_head: Head) -> None:
    saved = home.save_head(tiny_head, name="mine")
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.heads_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


def test_a_folder_that_was_there_keeps_its_permissions(home: Home, tiny_head: Head) -> None:
    home.folder.mkdir(mode=0o755)
    home.folder.chmod(0o755)
    home.save_head(tiny_head, name="mine")
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o755
    assert stat.S_IMODE(home.heads_folder.stat().st_mode) == 0o700


def test_own_head_hides_a_shipped_one_until_deleted(home: Home, tiny_head: Head) -> None:
    home.save_head(dataclasses.replace(tiny_head, images=7), name="tiny")
    assert home.load_head("tiny").images == 7
    assert not home.find("tiny").shipped
    home.delete_head("tiny")
    assert home.load_head("tiny").images == 1
    assert home.find("tiny").shipped


def test_what_was_learned_about_a_shipped_head_is_not_said_of_an_own_one(home: Home, tiny_head: Head) -> None:
    learned = home.preferences_path("tiny")
    learned.parent.mkdir(parents=True)
    learned.write_text("{}")
    home.save_head(tiny_head, name="tiny")
    assert not learned.exists()
    learned.write_text("{}")
    home.save_head(tiny_head, name="tiny", overwrite=True)  # the same head, made anew
    assert learned.exists()


def test_taken_name_is_refused_unless_overwritten(home: Home, tiny_head: Head) -> None:
    home.save_head(tiny_head, name="mine")
    with pytest.raises(InputError, match="already"):
        home.save_head(tiny_head, name="mine")
    home.save_head(dataclasses.replace(tiny_head, images=3), name="mine", overwrite=True)
    assert home.load_head("mine").images == 3


def test_unknown_head_names_the_nearest(home: Home) -> None:
    with pytest.raises(MissingError, match="'tniy'") as caught:
        home.find("tniy")
    assert "did you mean tiny?" in caught.value.hint
    assert caught.value.exit_code == 3


def test_shipped_head_can_be_neither_deleted_nor_renamed(home: Home) -> None:
    with pytest.raises(InputError, match="cannot be deleted"):
        home.delete_head("tiny")
    with pytest.raises(InputError, match="cannot be renamed"):
        home.rename_head("tiny", "other")
    assert home.find("tiny").path.exists()


def test_rename_keeps_the_content_and_refuses_a_taken_name(home: Home, tiny_head: Head) -> None:
    home.save_head(tiny_head, name="one")
    home.save_head(tiny_head, name="two")
    with pytest.raises(InputError, match="already"):
        home.rename_head("one", "two")
    assert home.rename_head("one", "three").name == "three"
    assert [head.name for head in home.heads()] == ["three", "two", "tiny"]


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_damaged_head_is_named_and_does_not_hide_the_others(home: Home, tiny_head: Head, damage: bytes | None) -> None:
    saved = home.save_head(tiny_head, name="broken")
    saved.path.write_bytes(tiny_head.to_bytes()[:-100] if damage is None else damage)
    assert [head.name for head in home.heads()] == ["broken", "tiny"]
    with pytest.raises(StorageError, match="'broken'") as caught:
        home.load_head("broken")
    assert "easel personalize broken" in caught.value.hint


def test_foreign_files_are_no_heads(home: Home, tiny_head: Head) -> None:
    home.save_head(tiny_head, name="mine")
    (home.heads_folder / "notes.txt").write_text("x")
    (home.heads_folder / ".mine.head.abc.tmp").write_text("x")
    (home.heads_folder / "two words.head").write_text("x")
    assert [head.name for head in home.heads()] == ["mine", "tiny"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "-x", "a b", "a.head", "x" * 65, "con", "LPT1", "a\n", "a\0"],
)
def test_names_with_path_tricks_are_refused(home: Home, tiny_head: Head, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        home.save_head(tiny_head, name=name)
    assert not home.folder.exists()


@given(st.text(max_size=70))
def test_an_accepted_name_stays_in_its_folder(name: str) -> None:
    try:
        normal = check_name(name)
    except InputError:
        return
    path = Path("/heads") / f"{normal}.head"
    assert path.parent == Path("/heads") and path.stem == normal and len(path.name.encode()) < 255


def test_home_that_cannot_be_made_is_one_clear_error(tmp_path: Path, tiny_head: Head) -> None:
    (tmp_path / "file").write_text("x")
    home = Home(folder=tmp_path / "file" / "home", shipped={})
    with pytest.raises(StorageError) as caught:
        home.save_head(tiny_head, name="mine")
    assert "EASEL_HOME" in caught.value.hint


def test_environment_chooses_the_home(tmp_path: Path) -> None:
    assert home_folder(environ={"EASEL_HOME": str(tmp_path)}) == tmp_path
    assert home_folder(environ={}).name == "easel"
