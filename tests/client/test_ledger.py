"""The device's ledger: what a round costs, what is refused, what is told."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.ledger import Ledger
from shared_model.errors import BudgetError, LedgerError, MissingError, PrivacyError, TooSoonError
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from tests.client.accounts import USER, make, per_step

EXAMPLE = Mechanism(1.5, 0.2, "example")
CORRELATED = Mechanism(4.0, 1.0, "user")


def test_reserve_send_commit_are_on_disk_and_counted_at_once(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    assert ledger.spent() == 0.0
    reservation = ledger.reserve("spring", 3, mechanism=USER)
    assert reservation.epsilon_after == ledger.spent() == 3.0
    assert [entry.state for entry in make(tmp_path).entries()] == ["reserved"]
    ledger.sent(reservation, bytes_sent=650_004, kind="int8 delta")
    ledger.commit(reservation)
    ledger.commit(reservation)
    (entry,) = make(tmp_path).entries()
    assert (entry.state, entry.bytes_sent, entry.kind, entry.run, entry.round) == (
        "committed",
        650_004,
        "int8 delta",
        "spring",
        3,
    )
    assert entry.reserved_at == entry.sent_at == entry.committed_at == "2026-05-04T10:30:00+00:00"
    assert ledger.spent() == 3.0


def test_user_level_costs_all_attempts_up_to_the_highest(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for round_number, attempt, expected in ((2, 0, 2.0), (4, 4, 4.0), (4, 5, 5.0), (7, 8, 8.0)):
        ledger.reserve("spring", round_number, mechanism=USER, attempt=attempt)
        assert ledger.spent() == expected
    ledger.reserve("summer", 2, mechanism=USER)
    assert ledger.spent() == 10.0


@pytest.mark.parametrize(("round_number", "attempt"), [(4, 4), (4, 3), (3, 0), (2, 2), (1, 0)])
def test_replays_are_refused_whatever_they_cost(tmp_path: Path, round_number: int, attempt: int) -> None:
    ledger = make(tmp_path)
    ledger.reserve("spring", 3, mechanism=USER)
    ledger.reserve("spring", 4, mechanism=USER, attempt=4)
    for mechanism in (USER, EXAMPLE):
        with pytest.raises((LedgerError, PrivacyError), match=r"replay|cannot reserve") as caught:
            ledger.reserve("spring", round_number, mechanism=mechanism, attempt=attempt)
        assert caught.value.exit_code == 6
    assert len(ledger.entries()) == 2
    assert ledger.reserve("summer", 1, mechanism=USER).participation == 1
    assert ledger.reserve("spring", 4, mechanism=USER, attempt=5).participation == 3


def test_correlated_noise_pays_for_the_whole_run_at_once(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for round_number in (3, 8, 40):
        ledger.reserve("autumn", round_number, mechanism=CORRELATED, separation=5)
        assert ledger.spent() == 0.5
    ledger.reserve("autumn", 60, mechanism=Mechanism(2.0, 1.0, "user"), separation=5)
    assert ledger.spent() == 1.0, "the weakest noise of the run counts"
    ledger.reserve("spring", 4, mechanism=USER)
    assert ledger.spent() == 5.0
    # A server that changes its mind within a run has both counted.
    ledger.reserve("spring", 20, mechanism=CORRELATED, separation=1)
    assert ledger.spent() == 5.5


def test_a_round_too_close_to_the_last_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.reserve("autumn", 10, mechanism=CORRELATED, separation=4)
    for close in (7, 10, 11, 13):
        with pytest.raises(TooSoonError, match=f"round {close} of run autumn"):
            ledger.reserve("autumn", close, mechanism=CORRELATED, separation=4)
    assert len(make(tmp_path).entries()) == 1
    # Whatever the server says now: the largest separation ever stated for the run holds,
    for separation, rate in ((1, 1.0), (0, 0.1)):
        with pytest.raises(TooSoonError, match="once in 4 rounds"):
            ledger.reserve("autumn", 13, mechanism=Mechanism(4.0, rate, "user"), separation=separation)
    # and a larger one holds for what was before.
    with pytest.raises(TooSoonError, match="once in 5 rounds"):
        ledger.reserve("autumn", 14, mechanism=CORRELATED, separation=5)
    ledger.reserve("autumn", 14, mechanism=CORRELATED, separation=4)
    ledger.reserve("winter", 11, mechanism=CORRELATED, separation=4)
    assert [(entry.run, entry.round) for entry in ledger.entries()] == [("autumn", 10), ("autumn", 14), ("winter", 11)]


def test_a_sampled_run_may_ask_every_round_but_none_twice(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for round_number in (1, 2, 3):
        ledger.reserve("spring", round_number, mechanism=USER)
    for replayed in (3, 1):
        with pytest.raises(LedgerError, match="replay"):
            ledger.reserve("spring", replayed, mechanism=USER)
    with pytest.raises(TooSoonError):
        ledger.reserve("spring", 4, mechanism=CORRELATED, separation=2)


@pytest.mark.parametrize(("mechanism", "separation"), [(USER, 2), (EXAMPLE, 2), (CORRELATED, -1)])
def test_a_separation_belongs_to_correlated_noise(tmp_path: Path, mechanism: Mechanism, separation: int) -> None:
    with pytest.raises(PrivacyError, match="correlated noise"):
        make(tmp_path).reserve("autumn", 1, mechanism=mechanism, separation=separation)


def test_user_level_takes_the_weakest_mechanism_of_a_run(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.reserve("spring", 4, mechanism=USER)
    ledger.reserve("spring", 5, mechanism=Mechanism(1.0, 0.05, "user"))
    assert ledger.spent() == 5 * 2.0
    ledger.reserve("spring", 6, mechanism=Mechanism(8.0, 0.05, "user"))
    assert ledger.spent() == 6 * 2.0


def test_example_level_composes_every_participation(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    mechanism = Mechanism(2.0, 0.2, "example")
    for attempt, expected in ((1, 10.0), (2, 20.0)):
        ledger.reserve("spring", 1, mechanism=mechanism, steps=10, attempt=attempt)
        assert ledger.spent() == expected


def test_units_are_reported_apart_and_their_sum_is_limited(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.json", max_epsilon=50.0, delta=1e-5)
    ledger.reserve("spring", 5, mechanism=USER)
    ledger.reserve("site", 1, mechanism=EXAMPLE, steps=7)
    losses = ledger.losses()
    assert losses == {
        "user": epsilon([(USER, 5)], delta=0.5e-5),
        "example": epsilon([(EXAMPLE, 7)], delta=0.5e-5),
    }
    assert ledger.spent() == sum(losses.values())
    limit = ledger.spent() + 1e-3
    tight = Ledger.open(tmp_path / "ledger.json", max_epsilon=limit, delta=1e-5)
    with pytest.raises(BudgetError):
        tight.reserve("site", 2, mechanism=EXAMPLE, steps=7)


def test_budget_is_refused_with_a_hint_and_only_the_refusal_recorded(tmp_path: Path) -> None:
    ledger = make(tmp_path, max_epsilon=5.0)
    ledger.reserve("spring", 4, mechanism=USER)
    before = ledger.entries()
    for number in (6, 7):
        with pytest.raises(BudgetError, match=rf"from 4.00 to {number}.00, above your budget of 5") as caught:
            ledger.reserve("spring", number, mechanism=USER)
        assert caught.value.exit_code == 6
        assert "nothing was sent" in caught.value.hint
    assert ledger.entries() == before
    ledger.refuse("autumn", 1, "clip 50 is above 10")
    ledger.refuse("autumn", 2, "clip 50 is above 10")
    refusals = ledger.summary()["refusals"]
    assert [(item["run"], item["round"], item["count"]) for item in refusals] == [
        ("spring", 6, 1),
        ("spring", 7, 1),
        ("autumn", 2, 2),
    ]
    ledger.reserve("spring", 5, mechanism=USER)


def test_refusals_do_not_grow_without_bound(tmp_path: Path) -> None:
    book = make(tmp_path).book()
    for number in range(300):
        book = book.refuse(f"run {number}", 1, "no", at="now")
    assert len(book.refusals) == 200 and book.refusals[-1].run == "run 299"


def test_no_noise_needs_an_infinite_budget(tmp_path: Path) -> None:
    silent = Mechanism(0.0, 0.1, "user")
    with pytest.raises(BudgetError):
        make(tmp_path / "a").reserve("run", 1, mechanism=silent)
    unlimited = make(tmp_path / "b", max_epsilon=math.inf)
    assert unlimited.reserve("run", 1, mechanism=silent).epsilon_after == math.inf
    summary = make(tmp_path / "b", max_epsilon=math.inf).summary()
    assert summary["epsilon"] is None and summary["max_epsilon"] is None and summary["epsilon_left"] == 0.0


def test_limits_go_down_never_up(tmp_path: Path) -> None:
    make(tmp_path, max_epsilon=8.0)
    assert make(tmp_path, max_epsilon=4.0).book().max_epsilon == 4.0
    with pytest.raises(PrivacyError, match="cannot be raised") as caught:
        make(tmp_path, max_epsilon=8.0)
    assert "4 or lower" in caught.value.hint
    with pytest.raises(PrivacyError, match="delta"):
        Ledger.open(tmp_path / "ledger.json", delta=1e-4)
    assert Ledger.open(tmp_path / "ledger.json", delta=1e-6).book().delta == 1e-6
    assert Ledger.open(tmp_path / "ledger.json").book().max_epsilon == 4.0


def test_opening_without_limits_needs_a_ledger_and_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        Ledger.open(tmp_path / "new" / "ledger.json")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("max_epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0)]
)
def test_bad_limits_are_refused(tmp_path: Path, max_epsilon: float, delta: float) -> None:
    with pytest.raises(PrivacyError):
        Ledger.open(tmp_path / "ledger.json", max_epsilon=max_epsilon, delta=delta)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for run, round_number, mechanism, steps in (
        ("", 1, USER, 1),
        ("run", 0, USER, 1),
        ("run", 1, EXAMPLE, 0),
        ("run", 1, USER, 2),
    ):
        with pytest.raises(PrivacyError):
            ledger.reserve(run, round_number, mechanism=mechanism, steps=steps)
    assert ledger.entries() == ()


def test_states_move_forward_once(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    reservation = ledger.reserve("spring", 1, mechanism=USER)
    with pytest.raises(LedgerError, match="reserved"):
        ledger.commit(reservation)
    with pytest.raises(PrivacyError):
        ledger.sent(reservation, bytes_sent=-1)
    ledger.sent(reservation, bytes_sent=1)
    with pytest.raises(LedgerError, match="sent"):
        ledger.sent(reservation, bytes_sent=1)
    stranger = make(tmp_path / "other").reserve("autumn", 9, mechanism=USER)
    with pytest.raises(LedgerError, match="no such reservation"):
        ledger.sent(stranger, bytes_sent=1)


def test_summary_is_plain_json(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for round_number in (1, 3):
        reservation = ledger.reserve("spring", round_number, mechanism=USER)
        ledger.sent(reservation, bytes_sent=100, kind="int8 delta")
    summary = json.loads(json.dumps(ledger.summary(), allow_nan=False))
    assert summary["epsilon"] == summary["epsilon_user_level"] == 3.0
    assert summary["epsilon_example_level"] == 0.0
    assert summary["epsilon_left"] == 97.0
    assert summary["bytes_sent"] == 200
    assert summary["runs"] == [
        {
            "run": "spring",
            "units": ["user"],
            "participations": 2,
            "highest_round": 3,
            "attempts_counted": 3,
            "bytes_sent": 200,
            "first": "2026-05-04T10:30:00+00:00",
            "last": "2026-05-04T10:30:00+00:00",
        }
    ]
    assert summary["entries"][1]["state"] == "sent"
    assert summary["bytes_by_kind"] == {"int8 delta": 200}
    assert summary["complete"] is True and summary["refusals"] == []
    assert summary["first"] == summary["last"] == "2026-05-04T10:30:00+00:00"


def test_clock_default_is_utc(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.json", max_epsilon=9.0, delta=1e-5, account=per_step)
    ledger.reserve("run", 1, mechanism=USER)
    stamp = datetime.fromisoformat(ledger.entries()[0].reserved_at)
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60
