"""What one server pays for polls, replies and sums of aggregators."""

import json
from pathlib import Path

import pytest

from shared_model.errors import FederationError
from simulations.fleet_load import Load, measure
from simulations.studies import run_study
from simulations.studies.capacity import adding, traffic


def test_bytes_of_a_round() -> None:
    found = traffic(1_000_000, parameters=1_000_000, cohort=1_000)
    assert found["down_bytes"] == pytest.approx(4.0e9, rel=0.01) and found["up_bytes"] == pytest.approx(1.0e9, rel=0.01)
    assert found["polls_a_second"] == pytest.approx(333_333, rel=0.01)


def test_the_slower_process_says_how_many_devices_a_core_carries() -> None:
    load = Load(devices=10, polls=1000, seconds=10.0, link_s=4.0, gate_s=2.0)
    assert (load.rate, load.cost_ms, load.most_devices) == (100.0, 6.0, 750)


def test_adding_costs_something_and_a_sum_is_eight_bytes_a_parameter() -> None:
    cost = adding(20_000, replies=4)
    assert cost.reply_ms > 0 and cost.merge_ms > 0 and cost.sum_bytes == pytest.approx(160_000, rel=0.02)


def test_the_gate_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="TLS"):
        measure(tmp_path, devices=2, seconds=1.0, secure=False, gate=True, database=False)


def test_the_study_without_polls(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_study("capacity", ["--no-polls", "--parameters", "10000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["polls"] == {}
    assert run_study("capacity", ["--help"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("secure", "gate"), [(False, False), (True, True)])
def test_real_polls_are_answered(secure: bool, gate: bool, tmp_path: Path) -> None:
    load = measure(tmp_path, devices=4, seconds=2.0, secure=secure, gate=gate, database=True)
    assert load.polls > 4 and load.link_s > 0 and (load.gate_s > 0) == gate
