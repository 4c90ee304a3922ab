"""What the studio remembers: photos it was given, styles made on the spot, paintings with their settings.

One folder, ``$EASEL_HOME/studio``, ``0700``, files ``0600``, bounded in size and deleted with one call. Things are
named after their content, so the same photo or the same painting is stored once. When room is needed, photos and
styles that no painting needs go first, then the oldest paintings that were not kept. Nothing here reaches a network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_model.errors import InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["CAP_BYTES", "Gallery", "Painting", "digest"]

CAP_BYTES = 2_000_000_000
_FOLDERS = ("photos", "views", "styles", "paintings")
_ID = re.compile(r"[0-9a-f]{24}")
_FRESH_S = 3600.0  # photos and styles younger than this are in use, whether painted already or not


def digest(*parts: bytes) -> str:
    """Return 24 hex digits that name a content."""
    told = hashlib.sha256()
    for part in parts:
        told.update(len(part).to_bytes(8, "little") + part)
    return told.hexdigest()[:24]


@dataclass(frozen=True)
class Painting:
    """One entry of the history.

    Attributes
    ----------
    id
        Names photo, head and settings: the same painting has the same name.
    photo
        The photo's id.
    title
        What the photo was called, without its suffix.
    head
        Name of a head, or ``style:ID``.
    options
        The painter's options as plain values.
    width, height
        In pixels.
    seconds
        How long painting took.
    created
        Seconds since 1970.
    kept
        Never dropped to make room.
    look
        How the head was bent, as plain values.
    """

    id: str
    photo: str
    title: str
    head: str
    options: Mapping[str, Any]
    width: int
    height: int
    seconds: float
    created: float
    kept: bool = False
    look: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Gallery:
    """The studio's folder.

    Attributes
    ----------
    folder
        Where; made on the first write.
    cap_bytes
        How much it may hold.
    clock
        Seconds since 1970.
    """

    folder: Path
    cap_bytes: int = CAP_BYTES
    clock: Callable[[], float] = time.time
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def add_photo(self, data: bytes, *, facts: Mapping[str, Any]) -> str:
        """Store the bytes of a photo with what is known of it (name, width, height); returns its id."""
        name = digest(data)
        with self._lock:
            self._write(self._path("photos", name, ".json"), json.dumps(dict(facts)).encode())
            self._write(self._path("photos", name), data)
        return name

    def photo(self, name: str) -> bytes:
        """Return the bytes of a photo.

        Raises
        ------
        MissingError
            If it is not there (any more).
        """
        return self._read(self._path("photos", name), "this photo")

    def photo_facts(self, name: str) -> dict[str, Any]:
        """Return what is known of a photo; raises like :meth:`photo`."""
        return dict(json.loads(self._read(self._path("photos", name, ".json"), "this photo")))

    def has_photo(self, name: str) -> bool:
        """Tell whether a photo is there."""
        return self._path("photos", name).is_file()

    def add_style(self, pictures: tuple[str, ...], data: bytes) -> str:
        """Store a head made from ``pictures`` on the spot; returns its id."""
        name = self.style_id(pictures)
        with self._lock:
            self._write(self._path("styles", name, ".json"), json.dumps({"pictures": pictures}).encode())
            self._write(self._path("styles", name, ".head"), data)
        return name

    def style_id(self, pictures: tuple[str, ...]) -> str:
        """Return the id of the style made from these pictures, whatever their order."""
        return digest(*(name.encode() for name in sorted(pictures)))

    def style(self, name: str) -> Path:
        """Return where a style lies; raises MissingError if it does not."""
        path = self._path("styles", name, ".head")
        if not path.is_file():
            raise MissingError("this style is not there any more", hint="drop its pictures again")
        return path

    def styles(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the styles made on the spot, newest first: id and pictures."""
        paths = sorted(self._files("styles", "*.json"), key=_age)
        return [(path.stem, tuple(json.loads(path.read_bytes())["pictures"])) for path in reversed(paths)]

    def delete_style(self, name: str) -> None:
        """Forget a style; its pictures go when room is needed."""
        self.style(name)
        self._remove("styles", name)

    def view(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return a small picture that can be made again, from the store or from ``make``."""
        path = self.folder / "views" / name
        with contextlib.suppress(OSError):
            return path.read_bytes()
        data = make()
        with self._lock:
            self._write(path, data)
        return data

    def delete_view(self, name: str) -> None:
        """Delete a small picture if it is there."""
        (self.folder / "views" / name).unlink(missing_ok=True)

    def add_painting(self, painting: Painting, *, picture: bytes, thumbnail: bytes) -> None:
        """Store a painting; what it does not need may be dropped to make room.

        Raises
        ------
        StorageError
            If there is no room, or the disk is full.
        """
        with self._lock:
            self.make_room(len(picture) + len(thumbnail), using={painting.photo, painting.head})
            self._write(self._path("paintings", painting.id, ".png"), picture)
            self._write(self._path("paintings", painting.id, ".jpg"), thumbnail)
            facts = json.dumps(dataclasses.asdict(painting)).encode()
            self._write(self._path("paintings", painting.id, ".json"), facts)

    def paintings(self) -> list[Painting]:
        """Return the history, newest first; entries that cannot be read are left out."""
        found = []
        for path in self._files("paintings", "*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(Painting(**json.loads(path.read_bytes())))
        return sorted(found, key=lambda one: -one.created)

    def painting(self, name: str) -> Painting:
        """Return one entry; raises MissingError if it is not there."""
        facts = self._read(self._path("paintings", name, ".json"), "this painting")
        try:
            return Painting(**json.loads(facts))
        except (ValueError, TypeError) as error:
            raise StorageError("this painting's settings are damaged", hint="delete it and paint it again") from error

    def picture(self, name: str, *, thumbnail: bool = False) -> bytes:
        """Return a painting as PNG, settings inside, or its small JPEG."""
        return self._read(self._path("paintings", name, ".jpg" if thumbnail else ".png"), "this painting")

    def keep(self, name: str, *, kept: bool) -> Painting:
        """Mark a painting so that it is never dropped to make room, or take the mark away."""
        with self._lock:
            changed = dataclasses.replace(self.painting(name), kept=kept)
            facts = json.dumps(dataclasses.asdict(changed)).encode()
            self._write(self._path("paintings", name, ".json"), facts)
        return changed

    def delete_painting(self, name: str) -> None:
        """Delete a painting for good, and its photo if no other painting is of it."""
        with self._lock:
            photo = self.painting(name).photo
            self._remove("paintings", name)
            if all(other.photo != photo for other in self.paintings()):
                self._remove("photos", photo)

    def clear(self) -> None:
        """Delete everything.

        Raises
        ------
        StorageError
            If something cannot be deleted.
        """
        with self._lock:
            for name in _FOLDERS:
                try:
                    shutil.rmtree(self.folder / name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise StorageError(
                        f"cannot delete {self.folder / name}: {error.strerror}", hint="check its permissions"
                    ) from error

    def size_bytes(self) -> int:
        """Return how many bytes are stored."""
        return sum(size for name in _FOLDERS for _, size in _sizes(self._files(name, "*")))

    def make_room(self, needed: int, *, using: set[str] | None = None) -> None:
        """Drop what can be dropped until ``needed`` more bytes fit: views, unused photos and styles, old paintings.

        Raises
        ------
        StorageError
            If that is not enough.
        """
        with self._lock:
            room = self.cap_bytes - self.size_bytes() - needed
            for drop in (self._stale_files(using or set()), self._old_paintings()):
                for remove, size in drop:
                    if room >= 0:
                        return
                    remove()
                    room += size
            if room < 0:
                raise StorageError(
                    f"the studio's folder is full ({self.cap_bytes / 1e9:.1f} GB)",
                    hint="delete paintings in the history, or stop keeping some of them",
                )

    def _stale_files(self, using: set[str]) -> list[tuple[Callable[[], None], int]]:
        paintings = self.paintings()
        needed = {one.photo for one in paintings} | {one.head.removeprefix("style:") for one in paintings}
        needed |= {name.removeprefix("style:") for name in using}
        since = self.clock() - _FRESH_S
        files = self._files("views", "*")
        stale = [
            path
            for kind in ("photos", "styles")
            for path in self._files(kind, "*")
            if path.stem not in needed and _age(path) < since
        ]
        ordered = sorted(files, key=_age) + sorted(stale, key=_age)
        return [(_remover(path), size) for path, size in _sizes(ordered)]

    def _old_paintings(self) -> list[tuple[Callable[[], None], int]]:
        def remover(name: str) -> Callable[[], None]:
            return lambda: self.delete_painting(name)

        droppable = [one.id for one in reversed(self.paintings()) if not one.kept]
        folder = self.folder / "paintings"
        return [(remover(name), sum(size for _, size in _sizes(list(folder.glob(f"{name}.*"))))) for name in droppable]

    def _path(self, kind: str, name: str, suffix: str = "") -> Path:
        if not _ID.fullmatch(name):
            raise InputError("this is not the name of a picture", hint="reload the page")
        return self.folder / kind / f"{name}{suffix}"

    def _files(self, kind: str, pattern: str) -> list[Path]:
        return [path for path in (self.folder / kind).glob(pattern) if not path.name.startswith(".")]

    def _remove(self, kind: str, name: str) -> None:
        for path in (self.folder / kind).glob(f"{name}*"):
            _remover(path)()

    def _read(self, path: Path, what: str) -> bytes:
        if not path.is_file():
            raise MissingError(f"{what} is not there any more", hint="it was deleted; drop the photo again")
        return read_bytes(path)

    def _write(self, path: Path, data: bytes) -> None:
        self.prepare()
        write_atomic(path, data, mode=0o600)

    def prepare(self) -> None:
        """Make the folders, closed to other users; raises StorageError if they cannot be."""
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.folder, *(self.folder / name for name in _FOLDERS)):
                folder.mkdir(exist_ok=True)
                os.chmod(folder, 0o700)
        except OSError as error:
            raise StorageError(
                f"cannot use {self.folder}: {error.strerror}", hint="set EASEL_HOME to a folder that you may write to"
            ) from error


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sizes(paths: list[Path]) -> list[tuple[Path, int]]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            found.append((path, path.stat().st_size))
    return found


def _remover(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)
