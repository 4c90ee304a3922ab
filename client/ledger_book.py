"""What a device's ledger holds, and its bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_model import checked
from shared_model.config import parse
from shared_model.errors import ConfigError, LedgerError
from shared_model.mechanism import UNITS

__all__ = ["STATES", "Book", "Entry", "Gap", "Refusal", "decode", "encode", "union"]

STATES = ("reserved", "sent", "committed")

_FORMAT = "easel-ledger"
_VERSION = 2


@dataclass(frozen=True)
class Entry:
    """One participation: a reservation and what became of it.

    Attributes
    ----------
    id
        Serial number in this ledger, from 1.
    run, round
        Identifier of the training run, and the round in it, from 1.
    attempt
        Which attempt of the run this was, from 1: a server that repeats a round after a crash makes a
        new attempt. It only ever grows within a run.
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
    attempt: int
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
        whole = self.id >= 1 and self.attempt >= self.round >= 1 and self.steps >= 1
        whole = whole and self.bytes_sent >= 0 and self.separation >= 0
        noise = math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0.0
        if not (whole and noise and 0.0 <= self.sample_rate <= 1.0 and self.run):
            raise ConfigError("a number is out of range")
        if self.unit not in UNITS or self.state not in STATES:
            raise ConfigError(f"unit {self.unit!r} or state {self.state!r} is not known")


@dataclass(frozen=True)
class Refusal:
    """Requests that this device turned down, those of one run for one reason together.

    Attributes
    ----------
    run, round
        The run, and the latest such round.
    why
        In plain words; stays on the device.
    count, first, last
        How many, and when (UTC, ISO 8601).
    """

    run: str
    round: int
    why: str
    count: int
    first: str
    last: str


@dataclass(frozen=True)
class Gap:
    """A server has seen more participations of this device in a run than the ledger knows."""

    run: str
    participations: int


@dataclass(frozen=True)
class Book:
    """Everything in a ledger.

    Attributes
    ----------
    identity
        Random name of this ledger; a secret between the device and its own disk.
    sequence
        Number of the write that made this state, from 1.
    max_epsilon, delta
        The owner's limit (infinity: none) and the delta at which it holds.
    entries
        In the order in which they were reserved.
    refusals
        What was turned down, the latest last; at most 200.
    place
        Path of the file when it was written; tells a removed ledger from one that never was.
    lost
        Writes that are known to have happened and are not here; see :attr:`incomplete`.
    gaps
        What servers have seen and the ledger does not know.
    """

    identity: str
    sequence: int
    max_epsilon: float
    delta: float
    entries: tuple[Entry, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    place: str = ""
    lost: int = 0
    gaps: tuple[Gap, ...] = ()

    def __post_init__(self) -> None:
        if not (self.identity and self.sequence >= 0 and self.lost >= 0):
            raise ConfigError("a number is out of range")
        if not (self.max_epsilon > 0.0 and 0.0 < self.delta < 1.0):
            raise ConfigError("the limit or delta is out of range")
        if [entry.id for entry in self.entries] != list(range(1, len(self.entries) + 1)):
            raise ConfigError("the entries are not numbered one by one")

    @property
    def incomplete(self) -> bool:
        """Whether more was spent than is written here; then all of the limit counts as spent."""
        return self.lost > 0 or bool(self.gaps)

    def of_run(self, run: str) -> tuple[Entry, ...]:
        """Return the entries of one run."""
        return tuple(entry for entry in self.entries if entry.run == run)

    def refuse(self, run: str, round: int, why: str, *, at: str) -> Book:
        """Return the book with one more refusal; equal ones are counted together."""
        same = [item for item in self.refusals if (item.run, item.why) == (run, why)]
        first, count = (same[0].first, same[0].count) if same else (at, 0)
        others = [item for item in self.refusals if item not in same]
        return dataclasses.replace(
            self, refusals=(*others, Refusal(run, round, why, count + 1, first=first, last=at))[-200:]
        )


def union(newest: Book, others: Iterable[Book]) -> Book:
    """Add what other copies of the same ledger know: their entries and the lower limits.

    Copies of one ledger that were used apart have entries of their own; all of them were spent.
    """
    entries = list(newest.entries)
    known = {_what(entry) for entry in entries}
    for book in others:
        for entry in book.entries:
            if _what(entry) not in known:
                known.add(_what(entry))
                entries.append(dataclasses.replace(entry, id=len(entries) + 1))
        newest = dataclasses.replace(
            newest, max_epsilon=min(newest.max_epsilon, book.max_epsilon), delta=min(newest.delta, book.delta)
        )
    return dataclasses.replace(newest, entries=tuple(entries))


def encode(book: Book) -> bytes:
    """Return the bytes of a ledger file."""
    content = dataclasses.asdict(book)
    content["max_epsilon"] = book.max_epsilon if math.isfinite(book.max_epsilon) else None
    return checked.encode(content, format=_FORMAT, version=_VERSION)


def decode(data: bytes, path: Path) -> Book:
    """Verify and read; ``path`` is for the message.

    Raises
    ------
    LedgerError
        If the bytes are not a whole, unedited ledger of this version.
    """
    content = checked.decode(data, format=_FORMAT, version=_VERSION, path=path)
    try:
        limit = content["max_epsilon"]
        content["max_epsilon"] = math.inf if limit is None else float(limit)
        for key, kind in (("entries", Entry), ("refusals", Refusal), ("gaps", Gap)):
            content[key] = tuple(_parsed(item, kind, path) for item in content[key])
        return parse(content, Book, source=str(path))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ConfigError) as error:
        raise LedgerError(
            f"the privacy ledger {path} is damaged: {error}",
            hint="put the latest copy of the ledger back; nothing is sent while it is damaged",
        ) from error


def _parsed(values: object, kind: type[Any], path: Path) -> Any:
    if not isinstance(values, Mapping):
        raise TypeError("a record is not a mapping")
    return parse(values, kind, source=str(path))


def _what(entry: Entry) -> tuple[object, ...]:
    return entry.run, entry.attempt, entry.unit, entry.steps, entry.noise_multiplier, entry.reserved_at
