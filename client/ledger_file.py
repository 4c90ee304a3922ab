"""The ledger's file: its lock, its seal, and its witness, which betray a rollback.

Two files lie side by side: ``ledger.json`` with every entry, and ``ledger.json.seal``, which is
the lock between processes and holds the ledger's identity and the number of its last write. Both
are readable by their owner only. A copy outside the folder (:mod:`client.witness`) remembers what
a backup of the folder would make forget.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from client.ledger_book import STATES, Book, Entry, decode, encode, union
from client.witness import LIMIT, Witness
from shared_model.errors import LedgerError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["STATES", "Book", "Entry", "LedgerFile"]


class LedgerFile:
    """Reads and writes a :class:`Book` under a lock that spans processes and threads.

    Guarantees
    ----------
    A reader sees the old or the new state, whatever is killed when. A file that was truncated or
    edited (checksum), that belongs to another folder (identity), or that is older than the last
    state written here (sequence: a restored backup) is refused, as is a missing file where there
    was one. With a witness this holds too where ledger and seal were restored, copied or removed
    together.

    Assumes
    -------
    The file system honors ``flock``, ``fsync`` and atomic rename. The checksum finds damage, not
    forgery: the owner of the device can rewrite both files, and only deceives themselves.

    Edge cases
    ----------
    Killed between file, seal and witness: the later ones are one write behind, which is accepted.
    Killed while the very first file was made: the next start makes it again.

    Parameters
    ----------
    path
        The ledger.
    witness
        Folder of the second memory; None to do without (simulated devices).
    durable
        Flush every write to the disk; a simulated device needs no promise beyond the death of its process.
    """

    def __init__(self, path: Path, *, witness: Path | None = None, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self.witness = None if witness is None else Witness(witness)
        self.seal = path.with_name(path.name + ".seal")
        self._lock = -1

    def exists(self) -> bool:
        """Say whether there is, or ever was, a ledger here; touches nothing."""
        return self.path.exists() or self.seal.exists() or bool(self._remembered())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger exclusively; other processes and threads wait.

        Raises
        ------
        StorageError
            If the folder is not writable.
        """
        lock = self._acquire()
        previous, self._lock = self._lock, lock
        try:
            yield
        finally:
            self._lock = previous
            os.close(lock)

    def load(self) -> Book | None:
        """Read and verify the ledger; None if there has never been one. The lock must be held.

        Raises
        ------
        LedgerError
            If it is damaged, foreign, older than its seal, or gone.
        """
        sealed = self._read_seal()
        if not self.path.exists():
            if sealed is None and not self._remembered():
                return None
            raise LedgerError(
                f"the privacy ledger {self.path} is gone, but there was one",
                hint="put the latest copy back, or take the second one with easel privacy FOLDER --recover",
            )
        book = decode(read_bytes(self.path, limit=LIMIT), self.path)
        first = sealed is None and book.sequence == 1 and not book.entries
        if not first and (sealed is None or sealed[0] != book.identity):
            raise LedgerError(
                f"the privacy ledger {self.path} does not belong to the seal beside it",
                hint=f"move {self.path.name} and {self.seal.name} together",
            )
        if sealed is not None and book.sequence < sealed[1]:
            raise LedgerError(
                f"the privacy ledger {self.path} is an old copy (write {book.sequence}, the last one was {sealed[1]})",
                hint="put the latest copy back, or take the second one with easel privacy FOLDER --recover",
            )
        if self.witness is not None:
            self.witness.check(book)
        return book

    def save(self, book: Book) -> None:
        """Replace the ledger by ``book``, then move the seal and the witness on. The lock must be held.

        Raises
        ------
        StorageError
            If the disk is full or not writable; the old or the new state is then in place.
        LedgerError
            If another copy of this ledger was written meanwhile.
        """
        with contextlib.nullcontext() if self.witness is None else self.witness.following(book):
            self._write(book)

    def recover(self) -> Book:
        """Return what all copies together know, not yet written. The lock must be held.

        Guarantees
        ----------
        Nothing that any readable copy counts is missing from the result; its limits are the lowest.
        Writes that happened and are in no copy are counted in ``lost``, so that all of the limit counts
        as spent (it cannot have been more). Its sequence is the highest known one.

        Raises
        ------
        LedgerError
            If no copy can be read.
        """
        with contextlib.suppress(LedgerError):
            return self._rescued(self._read_seal())
        return self._rescued(None)

    def _rescued(self, sealed: tuple[str, int] | None) -> Book:
        copies: list[Book] = []
        if self.path.exists():
            with contextlib.suppress(LedgerError):
                copies.append(decode(read_bytes(self.path, limit=LIMIT), self.path))
        if self.witness is not None:
            copies += self._remembered()
            for identity in {book.identity for book in copies} | ({sealed[0]} if sealed else set()):
                with contextlib.suppress(LedgerError):
                    copies += filter(None, [self.witness.find(identity)])
        identity = sealed[0] if sealed else copies[0].identity if copies else ""
        copies = sorted((book for book in copies if book.identity == identity), key=lambda book: book.sequence)
        if not copies:
            raise LedgerError(
                f"there is no readable copy of the privacy ledger {self.path}",
                hint="put the latest backup of the ledger there and run this again",
            )
        newest = copies[-1]
        highest = max(newest.sequence, sealed[1] if sealed else 0)
        merged = union(newest, copies[:-1])
        return dataclasses.replace(
            merged,
            sequence=highest,
            lost=merged.lost + highest - newest.sequence,
            gaps=tuple(gap for gap in merged.gaps if len(merged.of_run(gap.run)) < gap.participations),
        )

    def _remembered(self) -> list[Book]:
        """Return the witness's copies of ledgers that lay here."""
        return [] if self.witness is None else self.witness.at(self.place)

    @property
    def unwitnessed(self) -> bool:
        """Say whether the second memory holds nothing of a ledger that lies here."""
        return self.witness is not None and not self._remembered()

    @property
    def place(self) -> Path:
        """Where the ledger lies, as the witness remembers it."""
        return self.path.resolve()

    def _write(self, book: Book) -> None:
        write_atomic(self.path, encode(book), mode=0o600, durable=self._durable)
        try:
            os.pwrite(self._lock, f"{book.identity} {book.sequence:020d}\n".encode(), 0)
            if self._durable:
                os.fsync(self._lock)
        except OSError as error:
            raise StorageError(f"cannot write {self.seal}: {error.strerror}", hint="free some disk space") from error

    def _acquire(self) -> int:
        """Open and lock the seal, again if it was replaced while this process waited."""
        try:
            self.seal.parent.mkdir(parents=True, exist_ok=True)
            while True:
                handle = os.open(self.seal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    if self.seal.exists() and os.path.samestat(os.fstat(handle), self.seal.stat()):
                        return handle
                except OSError:
                    os.close(handle)
                    raise
                os.close(handle)
        except OSError as error:
            raise StorageError(
                f"cannot lock {self.seal}: {error.strerror}", hint="check the folder and its permissions"
            ) from error

    def _read_seal(self) -> tuple[str, int] | None:
        """Return identity and sequence of the last finished write; None before the first."""
        content = os.pread(self._lock, 256, 0)
        if not content:
            return None
        identity, _, number = content.decode("ascii", errors="replace").strip().partition(" ")
        if not (identity and number.isdigit()):
            raise LedgerError(
                f"the seal {self.seal} is damaged", hint="put the latest copy of the ledger and seal back"
            )
        return identity, int(number)
