"""Buffered rounds with real devices: each pays once for the run, keeps its separation, and answers late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from client.app import app
from client.ledger import Ledger
from server.config import FederationConfig
from server.rounds import run
from server.state import StateStore
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from shared_model.weights import load_backbone
from simulations.slow_grid import SlowGrid, VirtualClock


def test_real_devices_pay_once_and_keep_the_separation(
    tmp_path: Path, config: FederationConfig, make_devices: Callable[[int], list[Path]], weights: Path
) -> None:
    buffered = replace(
        config,
        rounds=3,
        mode="buffered",
        mechanism="factorized",
        min_separation=2,
        max_staleness=1,
        cohort=1000,
        simulated_population=4,
        simulated_cohort=1,
        concurrency=2,
        min_nodes=4,
        deadline_s=100.0,
        noise_multiplier=2.0,
    )
    folders, clock = make_devices(4), VirtualClock()
    times = (10.0, 14.0, 11.0, 17.0)
    grid = SlowGrid(
        app, [{"device-dir": str(home)} for home in folders], clock=clock, delay=lambda device, number: times[device]
    )
    state = run(
        grid, StateStore(tmp_path / "run"), config=buffered, start=lambda: load_backbone(weights), timing=clock.timing
    )
    assert grid.failures == []
    assert [report.accepted for report in state.reports] == [1, 1, 1]
    assert max(report.staleness for report in state.reports) == 1.0
    books = [Ledger.open(home / "ledger.json") for home in folders if (home / "ledger.json").exists()]
    assert len(books) >= 3
    for book in books:
        entries = book.entries()
        assert {(entry.sample_rate, entry.separation, entry.noise_multiplier) for entry in entries} == {(1.0, 2, 2.0)}
        rounds = sorted(entry.round for entry in entries)
        assert all(later - earlier >= 2 for earlier, later in pairwise(rounds))
        once = epsilon([(Mechanism(2.0, 1.0, "user"), 1)], delta=book.book().delta)
        assert book.spent() == pytest.approx(once)  # the whole run, once, however often it took part
