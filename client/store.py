"""The home folder of one owner: private heads on disk, readable by nobody else.

``$EASEL_HOME`` or the platform's user data folder holds ``heads/<name>.head``. Folders are ``0700``, files
``0600``, writes atomic. Heads that ship with easel are offered beside the owner's own; an own head of the
same name comes first. Nothing here reaches the network.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.paths import home_folder
from shared_model.errors import CompatibilityError, EaselError, InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head

__all__ = ["MAX_HEAD_BYTES", "HeadFile", "Home", "check_name"]

MAX_HEAD_BYTES = 64 << 20
SUFFIX = ".head"
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})


def check_name(name: str) -> str:
    """Return ``name`` in normal form, or refuse it.

    A name is 1 to 64 letters, digits, ``-`` and ``_``, and starts with a letter or digit: it can be typed
    without quotes and can never leave the folder it is stored in.

    Raises
    ------
    InputError
        If the name has another shape.
    """
    normal = unicodedata.normalize("NFC", name)
    letters = all(letter.isalnum() or letter in "-_" for letter in normal)
    short = 1 <= len(normal) <= 64 and len(normal.encode()) <= 200
    if not (letters and short and normal[0].isalnum()) or normal.lower() in _RESERVED:
        raise InputError(
            f"{name!r} cannot be the name of a head",
            hint="use 1 to 64 letters, digits, '-' or '_', starting with a letter or digit, such as my-monet",
        )
    return normal


@dataclass(frozen=True)
class HeadFile:
    """One head as it lies on disk.

    Attributes
    ----------
    name
        What the owner calls it.
    path
        The file.
    shipped
        Came with easel; read only.
    size_bytes
        Size of the file.
    """

    name: str
    path: Path
    shipped: bool
    size_bytes: int

    def load(self) -> Head:
        """Read the head.

        Raises
        ------
        StorageError
            If the file is damaged; the message names the head.
        CompatibilityError
            If the file is not a head or of an unknown format.
        """
        again = "easel heads delete " + self.name + ", then easel personalize " + self.name + " makes it again"
        hint = "install easel again" if self.shipped else again
        try:
            return Head.from_bytes(read_bytes(self.path, limit=MAX_HEAD_BYTES))
        except (StorageError, CompatibilityError) as error:
            raise type(error)(f"head {self.name!r} cannot be used: {error.message}", hint=hint) from error


@dataclass(frozen=True)
class Home:
    """The owner's folder.

    Attributes
    ----------
    folder
        Where it is; made on the first write.
    shipped
        Heads that came with easel, by name.
    """

    folder: Path
    shipped: Mapping[str, Path]

    @classmethod
    def default(cls, *, environ: Mapping[str, str] | None = None) -> Home:
        """Return the home of this user: ``$EASEL_HOME`` or the platform's user data folder."""
        from client.models import heads_in_use

        folder = home_folder(environ=environ)
        return cls(folder=folder, shipped=heads_in_use(folder))

    @property
    def heads_folder(self) -> Path:
        """Folder of the owner's heads."""
        return self.folder / "heads"

    @property
    def device_folder(self) -> Path:
        """Folder of what this device trains with: its settings, cached records and privacy ledger."""
        return self.folder / "device"

    def preferences_path(self, name: str) -> Path:
        """Return where the owner's choices for a head lie (:mod:`client.preferences`), there or not.

        Raises
        ------
        InputError
            If the name cannot be that of a head.
        """
        return self.folder / "preferences" / f"{check_name(name)}.json"

    def prepare(self) -> None:
        """Make the folders, so that a home that cannot be written to is known before any work.

        Raises
        ------
        StorageError
            If they cannot be made or written to.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # one that exists keeps its permissions
            self.heads_folder.mkdir(exist_ok=True)
            os.chmod(self.heads_folder, 0o700)
            reason = "" if os.access(self.heads_folder, os.W_OK | os.X_OK) else "no permission"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise StorageError(
                f"cannot use {self.folder} as home: {reason}", hint="set EASEL_HOME to a folder that you may write to"
            )

    def heads(self) -> list[HeadFile]:
        """Return the owner's heads and the shipped ones that they do not hide, each sorted by name.

        Raises
        ------
        StorageError
            If the folder cannot be read.
        """
        own = self._own()
        shipped = {name: path for name, path in self.shipped.items() if name not in own}
        files = [(name, path, False) for name, path in sorted(own.items())]
        files += [(name, path, True) for name, path in sorted(shipped.items())]
        found = []
        for name, path, is_shipped in files:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found.append(HeadFile(name=name, path=path, shipped=is_shipped, size_bytes=path.stat().st_size))
        return found

    def find(self, name: str) -> HeadFile:
        """Return the head called ``name``: the owner's own, else the shipped one.

        Raises
        ------
        MissingError
            If there is none; the hint names the heads there are.
        """
        heads = self.heads()
        normal = unicodedata.normalize("NFC", name)
        for head in heads:
            if head.name == normal:
                return head
        names = [head.name for head in heads]
        near = difflib.get_close_matches(normal, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        hint += f"heads: {', '.join(names)}" if names else "make one with: easel personalize NAME PICTURE ..."
        raise MissingError(f"no head called {name!r}", hint=hint)

    def load_head(self, name: str) -> Head:
        """Read the head called ``name``; raises like :meth:`find` and :meth:`HeadFile.load`."""
        return self.find(name).load()

    def check_free(self, name: str, *, overwrite: bool = False) -> Path:
        """Return where a head called ``name`` goes.

        Raises
        ------
        InputError
            If the name is not allowed, or taken by an own head and ``overwrite`` is false.
        """
        normal = check_name(name)
        path = self.heads_folder / f"{normal}{SUFFIX}"
        if path.exists() and not overwrite:
            raise InputError(
                f"there is a head called {normal!r} already",
                hint="choose another name, or add --overwrite to replace it",
            )
        return path

    def save_head(self, head: Head, *, name: str, overwrite: bool = False) -> HeadFile:
        """Write ``head`` under ``name``.

        Raises
        ------
        InputError
            If the name is not allowed or taken.
        StorageError
            If it cannot be written; an older head of that name is then untouched.
        """
        path = self.check_free(name, overwrite=overwrite)
        data = head.to_bytes()
        self.prepare()
        new = not path.exists()
        self._forget_previous(path.stem)
        write_atomic(path, data, mode=0o600)
        if new:  # what was learned was about the shipped head of this name
            with contextlib.suppress(OSError):
                self.preferences_path(path.stem).unlink(missing_ok=True)
        return HeadFile(name=path.stem, path=path, shipped=False, size_bytes=len(data))

    def hidden_by(self, name: str) -> str:
        """Say that an own head of this name stands before one that easel ships; empty if it does not."""
        return f"easel's own {name!r} is hidden until yours is renamed or deleted" if name in self.shipped else ""

    def previous(self, name: str) -> dict[str, Path]:
        """Return the same head as it was for other backbones (:mod:`client.carry`), by backbone."""
        paths = self.heads_folder.glob(f"{name}{SUFFIX}.*")
        return {path.suffix[1:]: path for path in sorted(paths) if path.name.startswith(f"{name}{SUFFIX}.")}

    def replace_head(self, file: HeadFile, data: bytes, *, was: str, now: str) -> None:
        """Put a head for backbone ``now`` in the place of an own head, which stays beside it as that for ``was``.

        Killed in between, the old head is still in its place.
        """
        old = read_bytes(file.path, limit=MAX_HEAD_BYTES)
        known = was if len(was) == 12 and set(was) <= set("0123456789abcdef") else "unknown"  # the file says anything
        write_atomic(file.path.with_name(f"{file.path.name}.{known}"), old, mode=0o600)
        write_atomic(file.path, data, mode=0o600)
        file.path.with_name(f"{file.path.name}.{now}").unlink(missing_ok=True)

    def _forget_previous(self, name: str) -> None:
        """Remove a head as it was for other backbones: it holds the same pictures, or others than the new one."""
        for path in self.previous(name).values():
            path.unlink(missing_ok=True)

    def delete_head(self, name: str) -> HeadFile:
        """Delete an own head for good, with what was learned about it, and return what was deleted.

        The owner's choices for it and what a crash may have left of it go too. Copies in backups, and blocks that a
        disk has not reused yet, are out of reach.

        Raises
        ------
        InputError
            If the head is shipped.
        MissingError
            If there is none.
        StorageError
            If the file cannot be removed.
        """
        head = self._own_head(name, "deleted")
        try:
            self._forget_previous(head.name)
            for path in (self.preferences_path(head.name), *self._leftovers(head.name)):
                path.unlink(missing_ok=True)
            head.path.unlink()
        except OSError as error:
            raise StorageError(f"cannot delete {head.path}: {error.strerror}", hint="check its permissions") from error
        return head

    def rename_head(self, name: str, new_name: str) -> HeadFile:
        """Give an own head another name; raises like :meth:`delete_head` and :meth:`check_free`."""
        head = self._own_head(name, "renamed")
        path = self.check_free(new_name)
        try:
            head.path.rename(path)
            for backbone, other in self.previous(head.name).items():
                other.rename(path.with_name(f"{path.name}.{backbone}"))
            learned, target = self.preferences_path(head.name), self.preferences_path(path.stem)
            target.unlink(missing_ok=True)
            if learned.exists():
                learned.rename(target)
        except OSError as error:
            raise StorageError(f"cannot rename {head.path}: {error.strerror}", hint="check its permissions") from error
        return HeadFile(name=path.stem, path=path, shipped=False, size_bytes=head.size_bytes)

    def _leftovers(self, name: str) -> list[Path]:
        """Temporary files that a crash while writing head or choices left."""
        known = {self.heads_folder: f"{name}{SUFFIX}", self.folder / "preferences": f"{name}.json"}
        return [
            path
            for folder, file in known.items()
            if folder.is_dir()
            for path in folder.iterdir()
            if path.name.startswith(f".{file[:60]}.") and path.suffix == ".tmp"
        ]

    def _own_head(self, name: str, verb: str) -> HeadFile:
        head = self.find(name)
        if head.shipped:
            raise InputError(
                f"head {head.name!r} is shipped with easel and cannot be {verb}",
                hint="only your own heads can; an own head of the same name hides a shipped one",
            )
        return head

    def _own(self) -> dict[str, Path]:
        try:
            if not self.heads_folder.is_dir():
                return {}
            paths = list(self.heads_folder.iterdir())
        except OSError as error:
            raise StorageError(
                f"cannot read {self.heads_folder}: {error.strerror}", hint="check its permissions"
            ) from error
        return {path.stem: path for path in paths if path.suffix == SUFFIX and _is_name(path.stem)}


def _is_name(text: str) -> bool:
    try:
        return check_name(text) == text
    except EaselError:
        return False
