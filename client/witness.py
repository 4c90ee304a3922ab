"""A second memory of every ledger, outside the device folder: what a restored backup cannot take back.

Each time a ledger is written, a copy goes into the witness folder (:func:`client.paths.witness_folder`),
named by the ledger's identity. A ledger that is older than its witness was put back from a backup;
a folder without a ledger whose place a witness remembers had one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from client.ledger_book import Book, decode, encode
from shared_model.errors import LedgerError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["LIMIT", "Witness"]

LIMIT = 1 << 28


class Witness:
    """The copies of all ledgers of this user on this machine.

    Guarantees
    ----------
    A copy is at most one write behind its ledger, and never goes back. Two copies of one device
    folder on one machine cannot both spend: the second to write the same sequence number is refused.

    Assumes
    -------
    The witness folder is not restored together with the device folder. If it is, only a server can
    tell (:meth:`client.ledger.Ledger.reserve`).

    Edge cases
    ----------
    A witness that is gone (a new machine) is made anew from the ledger. A damaged one is refused.

    Parameters
    ----------
    folder
        Made when the first copy is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, identity: str) -> Book | None:
        """Return the copy of a ledger, or None.

        Raises
        ------
        LedgerError
            If it is damaged.
        """
        path = self._path(identity)
        return decode(read_bytes(path, limit=LIMIT), path) if path.exists() else None

    def at(self, place: Path) -> list[Book]:
        """Return the copies of ledgers that were last written at this place; damaged ones are passed over."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(LedgerError, StorageError):
                book = decode(read_bytes(path, limit=LIMIT), path)
                if book.place == str(place):
                    found.append(book)
        return found

    def forget(self, place: Path) -> int:
        """Remove the copies of ledgers that were last written at this place; returns how many.

        For an owner who asks for it: what those ledgers counted is forgotten for good.
        """
        gone = self.at(place)
        with self._locked():
            for book in gone:
                self._path(book.identity).unlink(missing_ok=True)
        return len(gone)

    def check(self, book: Book) -> None:
        """Compare a ledger with its copy.

        Raises
        ------
        LedgerError
            If the copy is newer, or knows another story.
        """
        copy = self.find(book.identity)
        if copy is None or copy.sequence < book.sequence:
            return
        if copy.sequence > book.sequence:
            raise LedgerError(
                f"the privacy ledger of this device is an old copy (write {book.sequence}, the last one was "
                f"{copy.sequence})",
                hint="easel privacy FOLDER --recover takes the newest copy; nothing is sent before",
            )
        if copy.entries != book.entries:
            raise LedgerError(
                "two copies of this device's privacy ledger were used apart",
                hint="easel privacy FOLDER --recover counts what both have spent; nothing is sent before",
            )

    @contextlib.contextmanager
    def following(self, book: Book) -> Iterator[None]:
        """Let the caller write ``book``, then keep a copy; nobody else writes one meanwhile.

        Raises
        ------
        LedgerError
            If the copy is already as new as ``book``: another copy of the ledger is in use.
        StorageError
            If the folder cannot be written.
        """
        with self._locked():
            copy = self.find(book.identity)
            if copy is not None and copy.sequence >= book.sequence:
                raise LedgerError(
                    "another copy of this device's privacy ledger is in use",
                    hint="use one copy of a device folder; easel privacy FOLDER --recover repairs this one",
                )
            yield
            write_atomic(self._path(book.identity), encode(book), mode=0o600)

    def _path(self, identity: str) -> Path:
        if not identity.isalnum():
            raise LedgerError("the identity of this privacy ledger is damaged")
        return self.folder / f"{identity}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"cannot use {self.folder}: {error.strerror}",
                hint="the second memory of privacy ledgers lives there; EASEL_STATE names another folder",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
