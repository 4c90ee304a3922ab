"""The ledger's file: what it holds, its checksum, its lock, and the seal that betrays a rollback.

Two files lie side by side: ``ledger.json`` with every entry, and ``ledger.json.seal``, which is
the lock between processes and holds the ledger's identity and the number of its last write. Both
are readable by their owner only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_model.config import parse
from shared_model.errors import ConfigError, LedgerError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.mechanism import UNITS

__all__ = ["STATES", "Book", "Entry", "LedgerFile"]

STATES = ("reserved", "sent", "committed")

_FORMAT = "easel-ledger"
_VERSION = 1
_LIMIT = 1 << 28


@dataclass(frozen=True)
class Entry:
    """One participation: a reservation and what became of it.

    Attributes
    ----------
    id
        Serial number in this ledger, from 1.
    run, round
        Identifier of the training run, and the round in it, from 1.
    unit, noise_multiplier, sample_rate, steps
        The mechanism (:class:`shared_model.mechanism.Mechanism`) and its number of steps.
    state
        ``reserved`` (counts as spent already), ``sent`` or ``committed``.
    bytes_sent, kind
        Size and kind of what left the device.
    reserved_at, sent_at, committed_at
        UTC times in ISO 8601; empty while it has not happened.
    separation
        Rounds that must lie between two participations in this run, whose noise is correlated over
        the rounds; 0 for every other mechanism.
    """

    id: int
    run: str
    round: int
    unit: str
    noise_multiplier: float
    sample_rate: float
    steps: int
    state: str = "reserved"
    bytes_sent: int = 0
    kind: str = ""
    reserved_at: str = ""
    sent_at: str = ""
    committed_at: str = ""
    separation: int = 0

    def __post_init__(self) -> None:
        whole = self.id >= 1 and self.round >= 1 and self.steps >= 1 and self.bytes_sent >= 0 and self.separation >= 0
        noise = math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0.0
        if not (whole and noise and 0.0 <= self.sample_rate <= 1.0 and self.run):
            raise ConfigError("a number is out of range")
        if self.unit not in UNITS or self.state not in STATES:
            raise ConfigError(f"unit {self.unit!r} or state {self.state!r} is not known")


@dataclass(frozen=True)
class Book:
    """Everything in a ledger.

    Attributes
    ----------
    identity
        Random name of this ledger.
    sequence
        Number of the write that made this state, from 1.
    max_epsilon, delta
        The owner's limit (infinity: none) and the delta at which it holds.
    entries
        In the order in which they were reserved.
    """

    identity: str
    sequence: int
    max_epsilon: float
    delta: float
    entries: tuple[Entry, ...] = ()


class LedgerFile:
    """Reads and writes a :class:`Book` under a lock that spans processes and threads.

    Guarantees
    ----------
    A reader sees the old or the new state, whatever is killed when. A file that was truncated or
    edited (checksum), that belongs to another folder (identity), or that is older than the last
    state written here (sequence: a restored backup) is refused, as is a missing file where there
    was one.

    Assumes
    -------
    The file system honors ``flock``, ``fsync`` and atomic rename. The checksum finds damage, not
    forgery: the owner of the device can rewrite both files, and only deceives themselves.

    Edge cases
    ----------
    Killed between file and seal: the seal is one write behind, which is accepted. Killed while
    the very first file was made: the next start makes it again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seal = path.with_name(path.name + ".seal")
        self._lock = -1

    def exists(self) -> bool:
        """Say whether there is, or ever was, a ledger here; touches nothing."""
        return self.path.exists() or self.seal.exists()

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
            if sealed is None:
                return None
            raise LedgerError(
                f"the privacy ledger {self.path} is gone, but its seal is still there",
                hint="put the latest copy of the ledger back; nothing is sent without it",
            )
        book = _decode(read_bytes(self.path, limit=_LIMIT), self.path)
        if sealed is None and book.sequence == 1:
            return book
        if sealed is None or sealed[0] != book.identity:
            raise LedgerError(
                f"the privacy ledger {self.path} does not belong to the seal beside it",
                hint=f"move {self.path.name} and {self.seal.name} together",
            )
        if book.sequence < sealed[1]:
            raise LedgerError(
                f"the privacy ledger {self.path} is an old copy (write {book.sequence}, the last one was {sealed[1]})",
                hint="put the latest copy back; an old one would let the same budget be spent twice",
            )
        return book

    def save(self, book: Book) -> None:
        """Replace the ledger by ``book``, then move the seal on. The lock must be held.

        Raises
        ------
        StorageError
            If the disk is full or not writable; the old or the new state is then in place.
        """
        write_atomic(self.path, _encode(book), mode=0o600)
        try:
            os.pwrite(self._lock, f"{book.identity} {book.sequence:020d}\n".encode(), 0)
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


def _encode(book: Book) -> bytes:
    """Serialize with a checksum, readable to a curious owner."""
    content: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "identity": book.identity,
        "sequence": book.sequence,
        "max_epsilon": book.max_epsilon if math.isfinite(book.max_epsilon) else None,
        "delta": book.delta,
        "entries": [dataclasses.asdict(entry) for entry in book.entries],
    }
    content["checksum"] = _checksum(content)
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _decode(data: bytes, path: Path) -> Book:
    """Verify and parse; every failure is a LedgerError."""
    hint = "put the latest copy of the ledger back; nothing is sent while it is damaged"
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise LedgerError(f"{path} is not a privacy ledger", hint=hint)
        if content.get("version") != _VERSION:
            raise LedgerError(
                f"{path} has ledger version {content.get('version')}, this easel reads {_VERSION}",
                hint="use the version of easel that wrote it",
            )
        stated = content.pop("checksum", None)
        if stated != _checksum(content):
            raise LedgerError(f"the privacy ledger {path} is damaged or was edited", hint=hint)
        limit = content["max_epsilon"]
        return Book(
            identity=str(content["identity"]),
            sequence=int(content["sequence"]),
            max_epsilon=math.inf if limit is None else float(limit),
            delta=float(content["delta"]),
            entries=tuple(parse(entry, Entry, source=str(path)) for entry in content["entries"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise LedgerError(f"the privacy ledger {path} is damaged: {error}", hint=hint) from error


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
