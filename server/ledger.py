"""The server's own ledger: what every round of every run in a folder has charged.

It lies beside the round state and is written apart from it, so neither can make the other forget:
where they disagree, the larger charge counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.state import RoundState
from shared_model import checked
from shared_model.config import parse
from shared_model.errors import ConfigError, LedgerError
from shared_model.files import read_bytes, write_atomic
from shared_model.mechanism import UNITS, Mechanism

__all__ = ["FILE", "Account", "Charge", "Price", "ServerLedger"]

FILE = "ledger.json"
STATES = ("charged", "released", "void")

_FORMAT = "easel-server-ledger"
_VERSION = 1
_LIMIT = 1 << 30


@dataclass(frozen=True)
class Price:
    """What one round costs.

    Attributes
    ----------
    mechanism, steps
        The mechanism and how often one round runs it.
    whole_run
        Whether the mechanism is that of the whole run (noise correlated over the rounds), which is
        paid once however many of its rounds are run.
    """

    mechanism: Mechanism
    steps: int = 1
    whole_run: bool = False


@dataclass(frozen=True)
class Charge:
    """One attempt at a round, and what became of it.

    Attributes
    ----------
    run, round, attempt
        Which run; the round in it; how many rounds the run had begun, this one included.
    unit, noise_multiplier, sample_rate, steps
        What one such round costs (:class:`shared_model.mechanism.Mechanism`).
    state
        ``charged`` before anything is sent; ``released`` when the round is in the saved state;
        ``void`` when a crash interrupted it and it is certain that nothing was released. Only ``void``
        costs nothing.
    rounds
        Rounds that it stands for: 1, or more where an entry makes up for a ledger that was lost.
    charged_at, finished_at
        UTC times in ISO 8601; the second is empty while it has not happened.
    whole_run
        Whether the price is that of the whole run (:class:`Price`).
    """

    run: str
    round: int
    attempt: int
    unit: str
    noise_multiplier: float
    sample_rate: float
    steps: int
    state: str = "charged"
    rounds: int = 1
    charged_at: str = ""
    finished_at: str = ""
    whole_run: bool = False

    def __post_init__(self) -> None:
        whole = self.round >= 1 and self.attempt >= 1 and self.steps >= 1 and self.rounds >= 1 and bool(self.run)
        noise = math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0.0
        if not (whole and noise and 0.0 <= self.sample_rate <= 1.0):
            raise ConfigError("a number is out of range")
        if self.unit not in UNITS or self.state not in STATES:
            raise ConfigError(f"unit {self.unit!r} or state {self.state!r} is not known")


@dataclass(frozen=True)
class Account:
    """Everything in the ledger.

    Attributes
    ----------
    charges
        All attempts at all rounds, oldest first.
    participations
        By run and by a device ledger's name in it: the highest participation seen.
    devices
        By run and by node: the name of its ledger.
    """

    charges: tuple[Charge, ...] = ()
    participations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of_run(self, run: str) -> tuple[Charge, ...]:
        """Return the charges of one run."""
        return tuple(charge for charge in self.charges if charge.run == run)

    def rounds(self, run: str) -> int:
        """Return how many rounds of a run are spent."""
        return sum(charge.rounds for charge in self.of_run(run) if charge.state != "void")

    def history(self) -> list[tuple[Mechanism, int]]:
        """Return what all runs together have cost, for an accountant."""
        spent = [charge for charge in self.charges if charge.state != "void"]
        each = [(_mechanism(charge), charge.steps * charge.rounds) for charge in spent if not charge.whole_run]
        once = {(charge.run, _mechanism(charge)): charge.steps for charge in spent if charge.whole_run}
        return each + [(mechanism, steps) for (_, mechanism), steps in once.items()]

    def seen(self, run: str) -> dict[int, int]:
        """Return by node how many participations of its ledger are known; what each is told when asked again."""
        counts = self.participations.get(run, {})
        return {int(node): counts.get(name, 0) for node, name in self.devices.get(run, {}).items()}


class ServerLedger:
    """Keeps an :class:`Account` in a folder; use it under the lock of the folder's state.

    Guarantees
    ----------
    A round is charged on the disk before its request is sent. After a crash between any two writes
    the charge is that of the state or that of the ledger, whichever is larger, and never less than
    what was sent and released. A state that was restored from a backup, or removed, does not make
    rounds unspent; nor does a ledger that was. A ledger that is malformed, truncated or edited is
    refused.

    Assumes
    -------
    State and ledger are not both restored to the same earlier moment; then only the devices notice,
    who refuse attempts that they have answered.

    Edge cases
    ----------
    A missing ledger beside a state is made anew with what the state has charged. The ledger of
    another folder adds its runs to this one: too much is counted, never too little.

    Parameters
    ----------
    folder
        The run folder.
    clock
        Returns the time that charges are stamped with.
    """

    def __init__(self, folder: Path | str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = Path(folder) / FILE
        self._clock = clock

    def load(self) -> Account:
        """Read and verify the ledger; an empty one if there is none.

        Raises
        ------
        LedgerError
            If it is malformed, truncated, edited or of another version.
        """
        if not self.path.exists():
            return Account()
        content = checked.decode(read_bytes(self.path, limit=_LIMIT), format=_FORMAT, version=_VERSION, path=self.path)
        try:
            account = parse({**content, "charges": _charges(content["charges"], self.path)}, Account, source="ledger")
            _check_names(account)
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise LedgerError(
                f"the privacy ledger {self.path} is damaged: {error}",
                hint="put the latest copy of the ledger back; nothing is sent while it is damaged",
            ) from error
        return account

    def reconcile(self, state: RoundState, *, price: Price) -> RoundState:
        """Compare a loaded state with the ledger, and return it with the larger of both charges.

        Parameters
        ----------
        state
            As loaded.
        price
            What one round of its run costs.
        """
        account = self.load()
        settled = tuple(self._settle(charge, state) for charge in account.charges)
        account = dataclasses.replace(account, charges=settled)
        spent = max(account.rounds(state.run), state.round + state.extra)
        missing = spent - account.rounds(state.run)
        if missing:
            made_up = self._charge(state, price=price, state_name="released", rounds=missing)
            account = dataclasses.replace(account, charges=(*account.charges, made_up))
        self._save(account)
        highest = max((charge.attempt for charge in account.of_run(state.run)), default=0)
        return dataclasses.replace(state, extra=spent - state.round, attempt=max(state.attempt, highest))

    def charge(self, state: RoundState, *, price: Price) -> Account:
        """Charge the round that a saved state has reserved; on the disk when this returns."""
        account = self.load()
        charge = self._charge(state, price=price, state_name="charged", rounds=1)
        account = dataclasses.replace(account, charges=(*account.charges, charge))
        self._save(account)
        return account

    def finish(self, state: RoundState, replies: Iterable[tuple[int, str, int]]) -> None:
        """Note that a round is in the saved state, and what the devices' ledgers said.

        Parameters
        ----------
        state
            As saved after the round.
        replies
            (node, name of its ledger, participation) of each reply that said so.
        """
        account = self.load()
        counts = dict(account.participations.get(state.run, {}))
        names = dict(account.devices.get(state.run, {}))
        for node, name, participation in replies:
            counts[name] = max(participation, counts.get(name, 0))
            names[str(node)] = name
        self._save(
            Account(
                charges=tuple(self._settle(charge, state) for charge in account.charges),
                participations={**account.participations, state.run: counts},
                devices={**account.devices, state.run: names},
            )
        )

    def _settle(self, charge: Charge, state: RoundState) -> Charge:
        """Close the open charge that this very state tells about; leave all others as they are."""
        if charge.run != state.run or charge.state != "charged" or charge.attempt != state.attempt:
            return charge
        closed = "released" if state.round >= charge.round else "void"
        return dataclasses.replace(charge, state=closed, finished_at=self._now())

    def _charge(self, state: RoundState, *, price: Price, state_name: str, rounds: int) -> Charge:
        return Charge(
            run=state.run,
            round=max(1, state.reserved),
            attempt=max(1, state.attempt),
            unit=price.mechanism.unit,
            noise_multiplier=price.mechanism.noise_multiplier,
            sample_rate=price.mechanism.sample_rate,
            steps=price.steps,
            whole_run=price.whole_run,
            state=state_name,
            rounds=rounds,
            charged_at=self._now(),
            finished_at=self._now() if state_name == "released" else "",
        )

    def _save(self, account: Account) -> None:
        content: dict[str, Any] = dataclasses.asdict(account)
        write_atomic(self.path, checked.encode(content, format=_FORMAT, version=_VERSION), mode=0o600)

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _mechanism(charge: Charge) -> Mechanism:
    return Mechanism(charge.noise_multiplier, charge.sample_rate, charge.unit)


def _charges(items: object, path: Path) -> tuple[Charge, ...]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TypeError("the charges are not a list of records")
    return tuple(parse(item, Charge, source=str(path)) for item in items)


def _check_names(account: Account) -> None:
    """Refuse tables that are not run -> text -> number (or text)."""
    for tables, kind in ((account.participations, int), (account.devices, str)):
        for table in tables.values():
            if not all(isinstance(value, kind) for value in table.values()):
                raise TypeError("a table of devices holds something else")
    for names in account.devices.values():
        for node in names:
            int(node)
