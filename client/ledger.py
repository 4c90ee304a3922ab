"""The device's own record of its privacy: reserve before training, send, commit; never too little.

Two units are kept apart (:class:`shared_model.mechanism.Mechanism`):

``user``
    Central differential privacy over a whole fleet with Poisson-sampled cohorts. Being asked in
    round t of a run shows that rounds 1 to t took place, and their guarantee (amplification by
    sampling included) holds for devices that were not asked too: so a run costs its rounds 1 to t
    for the highest t asked, at the weakest mechanism announced in it, and being asked for the
    same round again costs nothing more. Where the noise is correlated over the rounds instead
    (:mod:`shared_model.factorization`), the first participation pays for the whole run; a round
    closer to the last one than the run's separation is refused, whatever the server says.
``example``
    Local training on this device's records. Every participation is a fresh release: all compose,
    and a repeated one costs again.

The owner's limit holds for the SUM of both (basic composition; with two units in use each is
counted at half of delta). That is conservative: whoever hides a user hides each of their records.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from client.ledger_file import Book, Entry, LedgerFile
from shared_model.errors import BudgetError, LedgerError, MissingError, PrivacyError, TooSoonError
from shared_model.mechanism import UNITS, Mechanism

__all__ = ["Accountant", "Ledger", "Reservation", "utc_now"]


class Accountant(Protocol):
    """Bounds the loss of a history; :func:`shared_model.privacy.epsilon` outside tests."""

    def __call__(self, history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
        """Return an upper bound on epsilon at ``delta``; 0 for an empty history."""


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
    """

    id: int
    run: str
    round: int
    epsilon_after: float


class Ledger:
    """What this device has given away, and the limit that its owner set.

    Guarantees
    ----------
    No reservation is granted that would bring the loss above the limit. What was granted is on
    the disk before :meth:`reserve` returns and counts from then on, sent or not; killing the
    process at any moment loses nothing. Two processes cannot both spend the same budget. The
    limit and delta can be lowered, never raised. Damaged, edited, foreign, missing or rolled-back
    files are refused (:class:`client.ledger_file.LedgerFile`).

    Assumes
    -------
    The mechanism that the caller states is the one that is run: noise for ``user`` is added by a
    trusted server, for ``example`` on this device. Runs have distinct identifiers.

    Edge cases
    ----------
    No entries cost 0; a mechanism without noise costs infinity and fits only an infinite limit;
    rounds may be asked out of order.
    """

    def __init__(self, path: Path, *, account: Accountant, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._file = LedgerFile(path)
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
    ) -> Ledger:
        """Open the ledger at ``path``, or make it if there has never been one.

        Parameters
        ----------
        path
            The file, usually ``ledger.json`` in the device folder.
        max_epsilon
            The owner's limit, > 0, infinity for none. Needed to make a ledger; on an existing one
            a lower limit replaces the recorded one.
        delta
            In (0, 1). Needed to make a ledger; a lower one replaces the recorded one.
        account
            Bounds the loss; the PRV accountant of `shared_model.privacy` by default.
        clock
            Returns the time that entries are stamped with.

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
        ledger = cls(Path(path), account=account or _epsilon, clock=clock)
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
                    max_epsilon=_lowered("max_epsilon", book.max_epsilon, max_epsilon),
                    delta=_lowered("delta", book.delta, delta),
                )
                if lowered != book:
                    ledger._save(lowered)
        return ledger

    def reserve(
        self, run: str, round: int, *, mechanism: Mechanism, steps: int = 1, separation: int = 0
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

        Raises
        ------
        BudgetError
            If the loss would pass the owner's limit; nothing is recorded then.
        TooSoonError
            If the last participation in this run is less than the separation away, the same round
            included; nothing is recorded then.
        LedgerError
            If the file is damaged, foreign, rolled back or gone.
        PrivacyError
            If round, steps or run are out of range.
        """
        if not run or round < 1 or steps < 1 or (mechanism.unit == "user" and steps != 1):
            raise PrivacyError(f"cannot reserve {steps} {mechanism.unit}-level steps for round {round} of run {run!r}")
        if separation < 0 or (separation and (mechanism.unit, mechanism.sample_rate) != ("user", 1.0)):
            raise PrivacyError("correlated noise protects users, without any sampling")
        with self._file.locked():
            book = self._load()
            _require_separation(book.entries, run, round, separation)
            entry = Entry(
                id=len(book.entries) + 1,
                run=run,
                round=round,
                unit=mechanism.unit,
                noise_multiplier=mechanism.noise_multiplier,
                sample_rate=mechanism.sample_rate,
                steps=steps,
                reserved_at=self._now(),
                separation=separation,
            )
            after = dataclasses.replace(book, entries=(*book.entries, entry))
            total = sum(self._losses(after).values())
            if not total <= book.max_epsilon:
                before = sum(self._losses(book).values())
                raise BudgetError(
                    f"round {round} of run {run} would bring the privacy loss from {before:.2f} to {total:.2f}, "
                    f"above your budget of {book.max_epsilon:g}",
                    hint="nothing was sent; this device takes no further part in this run",
                )
            self._save(after)
        return Reservation(id=entry.id, run=run, round=round, epsilon_after=total)

    def sent(self, reservation: Reservation, *, bytes_sent: int, kind: str = "update") -> None:
        """Note that ``bytes_sent`` bytes are leaving; call it just before they do."""
        if bytes_sent < 0:
            raise PrivacyError(f"cannot have sent {bytes_sent} bytes")
        self._advance(reservation, "sent", bytes_sent=bytes_sent, kind=kind, sent_at=self._now())

    def commit(self, reservation: Reservation) -> None:
        """Note that the round is over for this device; calling it again changes nothing."""
        self._advance(reservation, "committed", committed_at=self._now())

    def spent(self) -> float:
        """Return the total privacy loss: the sum over units, reservations included."""
        return sum(self.losses().values())

    def losses(self) -> dict[str, float]:
        """Return epsilon per unit that has entries, each at its share of delta."""
        return self._losses(self.book())

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, oldest first."""
        return self.book().entries

    def book(self) -> Book:
        """Return a verified snapshot of the whole ledger."""
        with self._file.locked():
            return self._load()

    def summary(self) -> dict[str, Any]:
        """Describe the ledger in plain values for JSON; an infinite number is None."""
        book = self.book()
        losses = self._losses(book)
        total = sum(losses.values())
        return {
            "ledger": str(self.path),
            "max_epsilon": _plain(book.max_epsilon),
            "delta": book.delta,
            "epsilon": _plain(total),
            "epsilon_left": _plain(max(0.0, book.max_epsilon - total)) if math.isfinite(total) else 0.0,
            "epsilon_user_level": _plain(losses.get("user", 0.0)),
            "epsilon_example_level": _plain(losses.get("example", 0.0)),
            "participations": len(book.entries),
            "bytes_sent": sum(entry.bytes_sent for entry in book.entries),
            "runs": [_run_summary(run, book.entries) for run in dict.fromkeys(entry.run for entry in book.entries)],
            "entries": [dataclasses.asdict(entry) for entry in book.entries],
        }

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
        self._file.save(dataclasses.replace(book, sequence=book.sequence + 1))

    def _losses(self, book: Book) -> dict[str, float]:
        units = [unit for unit in UNITS if any(entry.unit == unit for entry in book.entries)]
        return {unit: self._account(_history(book.entries, unit), delta=book.delta / len(units)) for unit in units}

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _history(entries: Iterable[Entry], unit: str) -> list[tuple[Mechanism, int]]:
    """Turn entries of one unit into what an accountant composes; see the module's rules."""
    chosen = [entry for entry in entries if entry.unit == unit]
    if unit == "example":
        return [(Mechanism(entry.noise_multiplier, entry.sample_rate, unit), entry.steps) for entry in chosen]
    runs: dict[tuple[str, bool], list[Entry]] = {}
    for entry in chosen:
        runs.setdefault((entry.run, entry.separation > 0), []).append(entry)
    return [
        (
            Mechanism(min(item.noise_multiplier for item in run), max(item.sample_rate for item in run), unit),
            1 if correlated else max(item.round for item in run),
        )
        for (_, correlated), run in runs.items()
    ]


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


def _run_summary(run: str, entries: Iterable[Entry]) -> dict[str, Any]:
    """Summarize one run for :meth:`Ledger.summary`."""
    chosen = [entry for entry in entries if entry.run == run]
    return {
        "run": run,
        "units": sorted({entry.unit for entry in chosen}),
        "participations": len(chosen),
        "highest_round": max(entry.round for entry in chosen),
        "bytes_sent": sum(entry.bytes_sent for entry in chosen),
        "first": chosen[0].reserved_at,
        "last": chosen[-1].reserved_at,
    }


def _lowered(name: str, recorded: float, wanted: float | None) -> float:
    """Return the new value of a limit, refusing to raise it."""
    if wanted is None or wanted == recorded:
        return recorded
    if wanted > recorded:
        raise PrivacyError(
            f"{name} is {recorded:g} in this device's ledger and cannot be raised to {wanted:g}",
            hint=f"set {name} to {recorded:g} or lower",
        )
    return wanted


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _epsilon(history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
    """Account with PRV; imported here, so that a device that only reads need not load opacus early."""
    from shared_model.privacy import epsilon

    return epsilon(history, delta=delta)
