"""The studio's folder: private, bounded, and empty when its owner says so."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from client.gallery import Gallery, Painting
from shared_model.errors import InputError, MissingError, StorageError


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "home" / "studio", cap_bytes=100_000, clock=Clock())


@pytest.fixture
def painted(gallery: Gallery) -> Callable[..., Painting]:
    def paint(number: int, *, size: int = 10_000, kept: bool = False) -> Painting:
        photo = gallery.add_photo(b"photo %d" % number, facts={"name": f"photo {number}", "width": 3, "height": 2})
        painting = Painting(
            id=f"{number:024x}",
            photo=photo,
            title="photo",
            head="oil",
            options={"seed": number},
            width=3,
            height=2,
            seconds=0.1,
            created=gallery.clock(),
            kept=kept,
        )
        gallery.add_painting(painting, picture=b"p" * size, thumbnail=b"t")
        return painting

    return paint


def test_what_is_put_in_comes_out(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    one, two = painted(1), painted(2)
    assert gallery.paintings() == [two, one]
    assert gallery.painting(one.id) == one
    assert gallery.picture(one.id) == b"p" * 10_000 and gallery.picture(one.id, thumbnail=True) == b"t"
    assert gallery.photo(one.photo) == b"photo 1"
    assert gallery.photo_facts(one.photo) == {"name": "photo 1", "width": 3, "height": 2}
    assert gallery.add_photo(b"photo 1", facts={"name": "photo 1", "width": 3, "height": 2}) == one.photo


def test_folders_and_files_are_closed_to_others(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    painted(1)
    gallery.add_style(("a" * 24,), b"head")
    for path in (gallery.folder, *gallery.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    "name", ["", "..", "../../heads/x", "a" * 23, "A" * 24, "g" * 24, "a" * 24 + "\n", "/etc/passwd"]
)
def test_names_that_are_none_lead_nowhere(gallery: Gallery, name: str) -> None:
    for call in (gallery.photo, gallery.photo_facts, gallery.painting, gallery.picture, gallery.style):
        with pytest.raises(InputError):
            call(name)
    with pytest.raises(InputError):
        gallery.delete_painting(name)


def test_what_is_gone_is_said_to_be_gone(gallery: Gallery) -> None:
    for call in (gallery.photo, gallery.painting, gallery.picture, gallery.style):
        with pytest.raises(MissingError, match="not there any more"):
            call("a" * 24)


def test_old_paintings_make_room_unless_they_are_kept(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    kept = painted(1, size=30_000, kept=True)
    old = painted(2, size=30_000)
    new = painted(3, size=30_000)
    newest = painted(4, size=30_000)
    assert gallery.paintings() == [newest, new, kept]
    assert not gallery.has_photo(old.photo) and gallery.has_photo(kept.photo)
    assert gallery.size_bytes() <= gallery.cap_bytes


def test_a_full_folder_refuses_rather_than_dropping_what_is_kept(
    gallery: Gallery, painted: Callable[..., Painting]
) -> None:
    painted(1, size=90_000, kept=True)
    with pytest.raises(StorageError, match="full"):
        painted(2, size=90_000)
    assert [one.options["seed"] for one in gallery.paintings()] == [1]


def test_views_and_unused_photos_go_first(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    painting = painted(1, size=20_000)
    gallery.view("small", lambda: b"v" * 50_000)
    unused = gallery.add_photo(b"u" * 20_000, facts={})
    gallery.clock.now = 1e11  # type: ignore[attr-defined]
    gallery.make_room(70_000)
    assert gallery.paintings() == [painting]
    assert not gallery.has_photo(unused)
    assert gallery.view("small", lambda: b"again") == b"again"


def test_photos_in_use_are_not_dropped(gallery: Gallery) -> None:
    gallery.clock = lambda: 0.0
    fresh = gallery.add_photo(b"u" * 90_000, facts={})
    with pytest.raises(StorageError):
        gallery.make_room(50_000)
    assert gallery.has_photo(fresh)


def test_deleting_a_painting_deletes_its_photo_with_the_last_of_it(
    gallery: Gallery, painted: Callable[..., Painting]
) -> None:
    one = painted(1)
    gallery.add_painting(
        Painting(**{**vars(one), "id": "f" * 24, "options": {"seed": 9}}), picture=b"x", thumbnail=b"y"
    )
    gallery.delete_painting(one.id)
    assert gallery.has_photo(one.photo)
    gallery.delete_painting("f" * 24)
    assert not gallery.has_photo(one.photo)
    assert gallery.paintings() == []


def test_keeping_lasts(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    one = painted(1)
    assert gallery.keep(one.id, kept=True).kept
    assert Gallery(gallery.folder).painting(one.id).kept
    assert not gallery.keep(one.id, kept=False).kept


def test_clearing_leaves_nothing_and_touches_nothing_else(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    painted(1)
    head = gallery.folder.parent / "heads" / "own.head"
    head.parent.mkdir()
    head.write_bytes(b"head")
    gallery.clear()
    assert gallery.size_bytes() == 0 and gallery.paintings() == [] and head.exists()
    gallery.clear()
    painted(2)


def test_damaged_entries_do_not_hide_the_others(gallery: Gallery, painted: Callable[..., Painting]) -> None:
    one = painted(1)
    for number, text in enumerate((b"", b"{", b'{"id": 1}', b"[]")):
        (gallery.folder / "paintings" / f"{number + 10:024x}.json").write_bytes(text)
    assert gallery.paintings() == [one]
    with pytest.raises(StorageError, match="damaged"):
        gallery.painting(f"{10:024x}")


def test_styles_are_named_by_their_pictures(gallery: Gallery) -> None:
    first, second = "a" * 24, "b" * 24
    name = gallery.add_style((first, second), b"head")
    assert gallery.style_id((second, first)) == name
    assert gallery.styles() == [(name, (first, second))]
    assert gallery.style(name).read_bytes() == b"head"
    gallery.delete_style(name)
    assert gallery.styles() == []
