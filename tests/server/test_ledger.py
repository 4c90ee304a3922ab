"""The server's own ledger: what was charged stays charged, whatever is put back."""

import dataclasses
from pathlib import Path

import pytest

from server.ledger import FILE, Account, Charge, Price, ServerLedger
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import LedgerError
from shared_model.mechanism import Mechanism

PRICE = Price(Mechanism(1.0, 0.5, "user"))


def charge(round: int, state: str, *, whole_run: bool = False) -> Charge:
    return Charge("run", round, round, "user", 1.0, 1.0, 1, state=state, whole_run=whole_run)


def test_a_whole_run_is_paid_once_and_a_void_attempt_never() -> None:
    sampled = Account(charges=(charge(1, "released"), charge(2, "charged"), charge(3, "void")))
    assert sum(steps for _, steps in sampled.history()) == 2
    correlated = Account(charges=tuple(charge(number, "released", whole_run=True) for number in (1, 2, 3)))
    assert [steps for _, steps in correlated.history()] == [1]


@pytest.mark.parametrize("keep", [0, 1, 20, -2])
def test_a_truncated_ledger_is_refused(keep: int, tmp_path: Path, saved: bytes) -> None:
    (tmp_path / FILE).write_bytes(saved[:keep])
    with pytest.raises(LedgerError):
        ServerLedger(tmp_path).load()


def test_any_flipped_bit_is_noticed(tmp_path: Path, saved: bytes) -> None:
    for place in range(0, len(saved) - 1, 7):
        (tmp_path / FILE).write_bytes(saved[:place] + bytes([saved[place] ^ 1]) + saved[place + 1 :])
        with pytest.raises(LedgerError):
            ServerLedger(tmp_path).load()


def test_an_older_state_goes_on_under_the_charge_of_all_rounds(tmp_path: Path, state: RoundState) -> None:
    ledger = ServerLedger(tmp_path)
    old = state
    for number in (1, 2, 3):
        state = state.reserve()
        ledger.charge(state, price=PRICE)
        state = dataclasses.replace(state, round=number)
        ledger.finish(state, [(7, "a" * 16, number)])
    back = ledger.reconcile(old, price=PRICE)
    assert (back.round, back.extra, back.attempt) == (0, 3, 3)
    assert back.reserve().charged == 4
    assert ledger.load().seen(state.run) == {7: 3}


def test_a_lost_ledger_is_made_up_for_from_the_state(tmp_path: Path, state: RoundState) -> None:
    ahead = dataclasses.replace(state, round=3, reserved=3, attempt=3)
    found = ServerLedger(tmp_path).reconcile(ahead, price=PRICE)
    assert found.charged == 3
    assert ServerLedger(tmp_path).load().rounds(state.run) == 3


@pytest.fixture
def state(config: object) -> RoundState:
    from server.rounds import begin

    return begin(config, Backbone(ModelConfig()))  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path, state: RoundState) -> bytes:
    folder = tmp_path / "saved"
    folder.mkdir()
    ServerLedger(folder).charge(state.reserve(), price=PRICE)
    return (folder / FILE).read_bytes()
