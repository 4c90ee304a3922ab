"""`easel privacy`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from client.ledger import Ledger
from shared_model.mechanism import Mechanism
from tests.client.conftest import Easel, is_one_error


def test_privacy_of_a_device_that_never_took_part(easel: Easel) -> None:
    code, out, _ = easel("privacy")
    assert code == 0 and "nothing has left" in out
    code, out, _ = easel("privacy", "--json")
    assert code == 0 and json.loads(out)["epsilon"] == 0
    code, _, err = easel("privacy", "nowhere")
    assert code == 3 and is_one_error(err)


@pytest.mark.parametrize(("limit", "words"), [(4.0, "of at most 4"), (math.inf, "no limit")])
def test_privacy_in_plain_words(easel: Easel, easel_home: Path, limit: float, words: str) -> None:
    path = easel_home / "device" / "ledger.json"
    ledger = Ledger.open(path, max_epsilon=limit, delta=1e-5)
    reservation = ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user"))
    ledger.sent(reservation, bytes_sent=650_000)
    code, out, _ = easel("privacy")
    assert code == 0 and "took part once in 1 run and sent 650 kB" in out and words in out
    assert "sent nothing" not in out
    _, out, _ = easel("privacy", path.parent, "--json")
    assert json.loads(out)["participations"] == 1
    ledger.reserve("first", 2, mechanism=Mechanism(1.0, 0.01, "user"))  # and training failed
    assert "took part 2 times in 1 run and sent 650 kB" in (out := easel("privacy")[1])
    assert "In 1 of these it has sent nothing, which counts all the same." in out
    assert easel("doctor")[0] == 0


def test_privacy_lists_every_round_and_every_refusal(easel: Easel, easel_home: Path) -> None:
    path = easel_home / "device" / "ledger.json"
    ledger = Ledger.open(path, max_epsilon=4.0, delta=1e-5)
    reservation = ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user"))
    ledger.sent(reservation, bytes_sent=650_000, kind="clipped update, int8")
    ledger.refuse("second", 3, "clip 50 is above 10")
    _, out, _ = easel("privacy", path.parent, "--rounds")
    assert "650000 B clipped update, int8" in out and "noise 1, rate 0.01" in out
    assert "650 kB as clipped update, int8" in out and "refused 1 of run second" in out and "clip 50" in out
    _, out, _ = easel("privacy", path.parent, "--json")
    facts = json.loads(out)
    assert facts["bytes_by_kind"] == {"clipped update, int8": 650_000}
    assert facts["entries"][0]["round"] == 1 and facts["entries"][0]["sent_at"].endswith("+00:00")
    assert 0 < facts["epsilon_left"] < 4 and facts["refusals"][0]["run"] == "second"


def test_privacy_recovers_a_removed_ledger(easel: Easel, easel_home: Path) -> None:
    path = easel_home / "device" / "ledger.json"
    ledger = Ledger.open(path, max_epsilon=4.0, delta=1e-5, witness=easel_home / "ledgers")
    ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user"))
    for file in path.parent.iterdir():
        file.unlink()
    code, _, err = easel("privacy")
    assert code == 6 and "--recover" in err
    code, out, _ = easel("privacy", "--recover")
    assert code == 0 and "took part once" in out
    assert easel("privacy")[0] == 0


def test_removed_or_damaged_ledger_is_told_not_forgotten(easel: Easel, easel_home: Path) -> None:
    path = easel_home / "device" / "ledger.json"
    Ledger.open(path, max_epsilon=4.0, delta=1e-5)
    path.write_bytes(b"{}")
    code, _, err = easel("privacy")
    assert code == 6 and is_one_error(err)
    path.unlink()
    code, _, err = easel("privacy")
    assert code == 6 and is_one_error(err)
    code, out, _ = easel("doctor")
    assert code == 1 and "fail  ledger" in out
