"""The device's own record of its privacy: reserve before training, send, commit; never too little.

Two units are kept apart (:class:`shared_model.mechanism.Mechanism`):

``user``
    Central differential privacy over a whole fleet with Poisson-sampled cohorts. Being asked in
    attempt t of a run shows that there were t attempts at rounds, and their guarantee (amplification
    by sampling included) holds for devices that were not asked too: so a run costs its attempts 1 to
    t for the highest t asked, at the weakest mechanism announced in it. A server that repeats a round
    after a crash makes a new attempt; the device cannot know that the old one released nothing, and
    counts both. Where the noise is correlated over the rounds instead
    (:mod:`shared_model.factorization`), the first participation pays for the whole run; a round
    closer to the last one than the run's separation is refused, whatever the server says.
``example``
    Local training on this device's records. Every participation is a fresh release: all compose,
    and a repeated one costs again.

Attempts of a run only ever grow: one that is not above all earlier ones is a replay, or comes from a
server that went back in time, and is refused. How a ledger that itself went back in time (a restored
backup) is noticed, and what that costs: :meth:`Ledger.reserve`, :mod:`client.witness`.

The owner's limit holds for the SUM of both (basic composition; with two units in use each is
counted at half of delta). That is conservative: whoever hides a user hides each of their records.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.ledger_account import Accountant, losses, prv, summary, tag, total_loss
from client.ledger_book import Book, Entry, Gap
from client.ledger_file import LedgerFile
from shared_model.errors import BudgetError, LedgerError, MissingError, PrivacyError, TooSoonError
from shared_model.mechanism import Mechanism

__all__ = ["Accountant", "Ledger", "Reservation", "utc_now"]


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Reservation:
    """Budget that is spent already, for one participation.

    Attributes
    ----------
    id
        Serial number of the entry.
    run, round
        What it is for.
    epsilon_after
        Total privacy loss of the device with this participation included.
    participation
        How often this device has taken part in the run, this time included: tells the server
        (who has counted too) when a ledger has gone back in time.
    tag
        Name of this ledger towards the servers of this run; other runs see other names.
    """

    id: int
    run: str
    round: int
    epsilon_after: float
    participation: int
    tag: str


class Ledger:
    """What this device has given away, and the limit that its owner set.

    Guarantees
    ----------
    No reservation is granted that would bring the loss above the limit. What was granted is on
    the disk before :meth:`reserve` returns and counts from then on, sent or not; killing the
    process at any moment loses nothing. Two processes cannot both spend the same budget. The
    limit and delta can be lowered, never raised. Damaged, edited, foreign, missing or rolled-back
    files are refused (:class:`client.ledger_file.LedgerFile`). Once something is known to be missing
    from the ledger, all of the limit counts as spent: it cannot have been more.

    Assumes
    -------
    The mechanism that the caller states is the one that is run: noise for ``user`` is added by a
    trusted server, for ``example`` on this device. Runs have distinct identifiers. A backup that
    restores the device folder AND the witness together is noticed only by the server of a run, when
    it next asks; what was spent in runs that never ask again is then forgotten.

    Edge cases
    ----------
    No entries cost 0; a mechanism without noise costs infinity and fits only an infinite limit;
    an infinite limit is never used up, not even by what is missing.
    """

    def __init__(self, file: LedgerFile, *, account: Accountant, clock: Callable[[], datetime]) -> None:
        self.path, self._file = file.path, file
        self._account = account
        self._clock = clock

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        max_epsilon: float | None = None,
        delta: float | None = None,
        account: Accountant | None = None,
        clock: Callable[[], datetime] = utc_now,
        witness: Path | None = None,
        durable: bool = True,
    ) -> Ledger:
        """Open the ledger at ``path``, or make it if there has never been one.

        Parameters
        ----------
        path
            The file, usually ``ledger.json`` in the device folder.
        max_epsilon
            The owner's limit, > 0, infinity for none. Needed to make a ledger; a lower one replaces the recorded one.
        delta
            In (0, 1). Needed to make a ledger; a lower one replaces the recorded one.
        account
            Bounds the loss; the PRV accountant of `shared_model.privacy` by default.
        clock
            Returns the time that entries are stamped with.
        witness
            Folder of the second memory (:func:`client.paths.witness_folder`); None to do without.
        durable
            Whether a write is on the disk when it returns; False for simulated devices only.

        Raises
        ------
        MissingError
            If there is no ledger and no limit to make one with.
        LedgerError
            If the file is damaged, foreign, rolled back or gone.
        PrivacyError
            If a limit or delta is out of range or above the recorded one.
        """
        if max_epsilon is not None and not max_epsilon > 0.0:
            raise PrivacyError(f"a privacy budget is positive, not {max_epsilon}")
        if delta is not None and not 0.0 < delta < 1.0:
            raise PrivacyError(f"delta lies strictly between 0 and 1, not {delta}")
        ledger = cls(LedgerFile(Path(path), witness=witness, durable=durable), account=account or prv, clock=clock)
        if (max_epsilon is None or delta is None) and not ledger._file.exists():
            raise MissingError(f"there is no privacy ledger at {path}", hint="easel join makes one")
        with ledger._file.locked():
            book = ledger._file.load()
            if book is None:
                if max_epsilon is None or delta is None:
                    raise MissingError(f"there is no privacy ledger at {path}", hint="easel join makes one")
                book = Book(identity=secrets.token_hex(8), sequence=0, max_epsilon=max_epsilon, delta=delta)
                ledger._save(book)
            else:
                lowered = dataclasses.replace(
                    book,
                    max_epsilon=_lowered("the budget (max_epsilon)", book.max_epsilon, max_epsilon),
                    delta=_lowered("delta", book.delta, delta),
                )
                if lowered != book or ledger._file.unwitnessed:
                    ledger._save(lowered)
        return ledger

    @classmethod
    def recover(
        cls,
        path: Path | str,
        *,
        witness: Path | None,
        account: Accountant | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> Ledger:
        """Put a damaged, removed or old ledger right from the newest copies that can be read.

        Guarantees
        ----------
        The result counts all that any copy counts, under the lowest limits. What is known to have
        happened and is in no copy makes all of the limit count as spent. Nothing is ever forgotten.

        Raises
        ------
        LedgerError
            If no copy can be read.
        """
        ledger = cls(LedgerFile(Path(path), witness=witness), account=account or prv, clock=clock)
        if not ledger._file.exists():
            raise MissingError(f"there is no privacy ledger at {path}", hint="name the folder of a device")
        with ledger._file.locked():
            ledger._save(ledger._file.recover())
        return ledger

    def reserve(
        self,
        run: str,
        round: int,
        *,
        mechanism: Mechanism,
        steps: int = 1,
        separation: int = 0,
        attempt: int = 0,
        seen: int = 0,
    ) -> Reservation:
        """Spend budget for one participation; nothing may be trained or sent before this returns.

        Parameters
        ----------
        run, round
            Identifier of the run; the round in it, from 1.
        mechanism
            What will be run in this round.
        steps
            Steps of it: 1 for ``user``, the number of optimizer steps for ``example``.
        separation
            Rounds that must lie between two participations where noise is correlated over the
            rounds, from 1; 0 elsewhere. The largest one ever stated for the run holds.
        attempt
            Which attempt of the run this is; 0 where no round was ever repeated (then it is the round).
        seen
            How many participations of this device in this run the server has seen. If that is
            more than the ledger knows, the ledger is an old copy: it is marked so for good.

        Raises
        ------
        BudgetError
            If the loss would pass the owner's limit; only the refusal is recorded then.
        TooSoonError
            If the last participation in this run is less than the separation away, the same round
            included; only the refusal is recorded then.
        LedgerError
            If the file is damaged, foreign, rolled back or gone, or the attempt is not above all
            earlier ones of this run.
        PrivacyError
            If round, steps, attempt or run are out of range.
        """
        attempt = attempt or round
        sound = run and attempt >= round >= 1 and steps >= 1 and seen >= 0
        if not sound or (mechanism.unit == "user" and steps != 1):
            raise PrivacyError(f"cannot reserve {steps} {mechanism.unit}-level steps for round {round} of run {run!r}")
        if separation < 0 or (separation and (mechanism.unit, mechanism.sample_rate) != ("user", 1.0)):
            raise PrivacyError("correlated noise protects users, without any sampling")
        with self._file.locked():
            book = self._load()
            try:
                if seen > len(book.of_run(run)):
                    book = _behind(book, Gap(run, seen))
                _require_separation(book.entries, run, round, separation)
                self._check(book, run, attempt)
                entry = Entry(
                    id=len(book.entries) + 1,
                    run=run,
                    round=round,
                    attempt=attempt,
                    unit=mechanism.unit,
                    noise_multiplier=mechanism.noise_multiplier,
                    sample_rate=mechanism.sample_rate,
                    steps=steps,
                    reserved_at=self._now(),
                    separation=separation,
                )
                after, total = self._spend(book, entry)
            except PrivacyError as error:
                self._save(book.refuse(run, round, error.message, at=self._now()))
                raise
            self._save(after)
        mine = after.of_run(run)
        return Reservation(mine[-1].id, run, round, total, participation=len(mine), tag=tag(book, run))

    def refuse(self, run: str, round: int, why: str) -> None:
        """Note that a request was turned down before anything was reserved."""
        with self._file.locked():
            self._save(self._load().refuse(run, round, why, at=self._now()))

    def _check(self, book: Book, run: str, attempt: int) -> None:
        """Refuse replays, and anything while the ledger is known to be an old copy."""
        if book.incomplete and math.isfinite(book.max_epsilon):
            raise LedgerError(
                "this device's privacy ledger is an old copy: it took part more often than is written there, so all "
                "of its budget counts as spent",
                hint="put the latest copy back, then run easel privacy FOLDER --recover",
            )
        highest = max((entry.attempt for entry in book.of_run(run)), default=0)
        if attempt <= highest:
            raise LedgerError(
                f"attempt {attempt} of run {run} is a replay: this device has answered up to attempt {highest}",
                hint="nothing was sent; the server repeats itself or was restored from an old backup",
            )

    def _spend(self, book: Book, entry: Entry) -> tuple[Book, float]:
        """Return the book with one more entry, and its loss; refuse what passes the limit."""
        after = dataclasses.replace(book, entries=(*book.entries, entry))
        total = total_loss(after, account=self._account)
        if not total <= book.max_epsilon:
            before = total_loss(book, account=self._account)
            raise BudgetError(
                f"round {entry.round} of run {entry.run} would bring the privacy loss from {before:.2f} to "
                f"{total:.2f}, above your budget of {book.max_epsilon:g}",
                hint="nothing was sent; this device takes no further part in this run",
            )
        return after, total

    def sent(self, reservation: Reservation, *, bytes_sent: int, kind: str = "update") -> None:
        """Note that ``bytes_sent`` bytes are leaving; call it just before they do."""
        if bytes_sent < 0:
            raise PrivacyError(f"cannot have sent {bytes_sent} bytes")
        self._advance(reservation, "sent", bytes_sent=bytes_sent, kind=kind, sent_at=self._now())

    def commit(self, reservation: Reservation) -> None:
        """Note that the round is over for this device; calling it again changes nothing."""
        self._advance(reservation, "committed", committed_at=self._now())

    def spent(self) -> float:
        """Return the total privacy loss: the sum over units, reservations included.

        Where something is known to be missing from the ledger it is at least the limit.
        """
        return total_loss(self.book(), account=self._account)

    def losses(self) -> dict[str, float]:
        """Return epsilon per unit that has entries, each at its share of delta."""
        return losses(self.book(), account=self._account)

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, oldest first."""
        return self.book().entries

    def book(self) -> Book:
        """Return a verified snapshot of the whole ledger."""
        with self._file.locked():
            return self._load()

    def summary(self) -> dict[str, Any]:
        """Describe the ledger in plain values for JSON; an infinite number is None."""
        return {"ledger": str(self.path), **summary(self.book(), account=self._account)}

    def _advance(self, reservation: Reservation, state: str, **changes: Any) -> None:
        """Move an entry from reserved to sent, or from sent to committed, once."""
        with self._file.locked():
            book = self._load()
            index = reservation.id - 1
            entry = book.entries[index] if 0 <= index < len(book.entries) else None
            if entry is None or (entry.run, entry.round) != (reservation.run, reservation.round):
                raise LedgerError(f"{self.path} holds no such reservation (number {reservation.id})")
            if entry.state == state == "committed":
                return
            if (entry.state, state) not in (("reserved", "sent"), ("sent", "committed")):
                raise LedgerError(f"reservation {entry.id} is {entry.state}; it cannot become {state}")
            entries = list(book.entries)
            entries[index] = dataclasses.replace(entry, state=state, **changes)
            self._save(dataclasses.replace(book, entries=tuple(entries)))

    def _load(self) -> Book:
        book = self._file.load()
        if book is None:
            raise LedgerError(f"the privacy ledger {self.path} is gone", hint="put the latest copy back")
        return book

    def _save(self, book: Book) -> None:
        self._file.save(dataclasses.replace(book, sequence=book.sequence + 1, place=str(self._file.place)))

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _behind(book: Book, gap: Gap) -> Book:
    """Mark a ledger as an old copy."""
    others = tuple(known for known in book.gaps if known.run != gap.run)
    return dataclasses.replace(book, gaps=(*others, gap))


def _require_separation(entries: Iterable[Entry], run: str, round: int, separation: int) -> None:
    """Refuse a round that is too close to an earlier one of a run with correlated noise."""
    earlier = [entry for entry in entries if entry.run == run and (separation or entry.separation)]
    distance = min((abs(round - entry.round) for entry in earlier), default=math.inf)
    needed = max([separation, *(entry.separation for entry in earlier)])
    if distance < needed:
        raise TooSoonError(
            f"round {round} of run {run} is {distance:.0f} rounds from this device's nearest one; "
            f"its noise protects only who takes part once in {needed} rounds",
            hint="nothing was sent; the device can take part again later",
        )


def _lowered(name: str, recorded: float, wanted: float | None) -> float:
    """Return the new value of a limit, refusing to raise it."""
    if wanted is None or wanted == recorded:
        return recorded
    if wanted > recorded:
        raise PrivacyError(
            f"{name} is {recorded:g} in this device's privacy ledger and cannot be raised to {wanted:g}",
            hint=f"{recorded:g} or lower will do: what an owner has decided once holds, whatever fleet is joined",
        )
    return wanted
