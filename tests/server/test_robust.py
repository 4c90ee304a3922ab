"""Rules that need all replies: they agree with Flower's, survive a minority, and refuse noise that does not fit."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvgM, FedMedian, FedYogi
from hypothesis import given, settings
from hypothesis import strategies as st

from server.aggregation import StreamingSum, server_optimizer
from server.app import federate
from server.config import FederationConfig
from server.config_checks import FLOWER_RULES
from server.flower_rules import rule_of
from server.release import release
from server.robust import Gathered, gather, krum, median, memory, trimmed_mean
from server.rounds import begin, run
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError, FederationError, PrivacyError
from shared_model.messages import ARRAY
from shared_model.split import flatten
from simulations.grid import InProcessGrid

BARE = FederationConfig(rounds=1, population=9, cohort=9, unprotected=True, clip=0.5, min_nodes=9)
PAIRS = {
    "median": "flower:FedMedian",
    "trimmed-mean": "flower:FedTrimmedAvg",
    "krum": "flower:Krum",
    "multi-krum": "flower:MultiKrum",
}


@pytest.fixture(autouse=True)
def _grid(fake_client: ClientApp) -> None:
    InProcessGrid(fake_client, [{}])  # Flower makes messages on behalf of a task, which a grid announces


def updates(count: int, size: int = 70, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32))


def averaged(config: FederationConfig, rows: list[np.ndarray]) -> np.ndarray:
    pool = gather(config, len(rows[0]), step=0.0)
    for row in rows:
        pool.add(torch.from_numpy(row.copy()))
    return pool.average(planned=config.planned, std=0.0, noise=lambda shape, *, std: torch.zeros(shape)).numpy()


@pytest.mark.parametrize("ours", PAIRS)
@pytest.mark.parametrize("count", [3, 4, 9, 20])
def test_our_rules_agree_with_flowers(ours: str, count: int) -> None:
    rows = updates(count, seed=count)
    mine = averaged(replace(BARE, aggregation=ours), rows)
    theirs = averaged(replace(BARE, aggregation=PAIRS[ours]), rows)
    assert mine.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_flowers_mean_is_ours_where_everybody_answers() -> None:
    rows = updates(9)
    theirs = averaged(replace(BARE, aggregation="flower:FedAvg"), rows)
    np.testing.assert_allclose(averaged(BARE, rows), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FLOWER_RULES)
def test_every_offered_strategy_of_flower_runs(name: str) -> None:
    result = averaged(replace(BARE, aggregation=f"flower:{name}"), updates(7))
    assert result.shape == (70,) and np.isfinite(result).all()


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum", "flower:Bulyan"])
def test_a_fifth_of_the_devices_moves_nothing_beyond_what_honest_ones_sent(name: str) -> None:
    honest, rng = updates(12, seed=1), np.random.default_rng(2)
    evil = [rng.normal(size=70).astype(np.float32) * 1000.0 for _ in range(3 if name != "flower:Bulyan" else 2)]
    result = averaged(replace(BARE, aggregation=name, trim=0.25, malicious=0.2), honest + evil)
    assert (result >= np.min(honest, axis=0) - 1e-5).all() and (result <= np.max(honest, axis=0) + 1e-5).all()
    assert np.abs(averaged(BARE, honest + evil)).max() > 10.0  # the mean is carried away


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 12), size=st.integers(1, 9), trim=st.floats(0, 0.49), seed=st.integers(0, 99))
def test_rules_stay_within_the_updates_and_ignore_their_order(count: int, size: int, trim: float, seed: int) -> None:
    rows = updates(count, size, seed)
    for rule in (median, lambda rows: trimmed_mean(rows, trim=trim)):
        result = rule(rows)
        assert (result >= np.min(rows, axis=0) - 1e-6).all() and (result <= np.max(rows, axis=0) + 1e-6).all()
        np.testing.assert_allclose(result, rule(rows[::-1]), rtol=1e-5, atol=1e-6)


def test_long_updates_are_cut_into_blocks_without_a_seam() -> None:
    rows = updates(5, size=(1 << 16) + 3)
    assert median(rows) == pytest.approx(np.median(np.stack(rows), axis=0))
    best = krum(rows, malicious=0.2, many=False)
    assert any(np.allclose(best, row) for row in rows)


def test_noise_for_a_sum_is_refused_at_the_last_moment_too() -> None:
    pool = Gathered(3, rule=median)
    pool.add(torch.ones(3))
    with pytest.raises(PrivacyError, match="no sum"):
        pool.average(planned=1, std=0.1, noise=lambda shape, *, std: torch.zeros(shape))
    with pytest.raises(FederationError, match="shape"):
        pool.add(torch.ones(4))


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum", "flower:FedAvg"])
def test_rules_that_are_no_sum_are_refused_under_user_level_noise(name: str) -> None:
    with pytest.raises(ConfigError, match="no sum"):
        FederationConfig(aggregation=name)
    with pytest.raises(ConfigError, match="no sum"):
        FederationConfig(aggregation=name, mechanism="factorized")
    FederationConfig(aggregation=name, unit="example")  # each device has added its own noise
    with pytest.raises(ConfigError, match="masked"):
        FederationConfig(aggregation=name, unit="example", secure_aggregation=True)


@pytest.mark.parametrize(
    "values",
    [{"trim": 0.5}, {"trim": -0.1}, {"malicious": 0.5}, {"aggregation": "flower:FedAdam"}, {"aggregation": "x"}],
)
def test_nonsense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        FederationConfig(unit="example", **values)


@pytest.mark.parametrize("strategy", [FedAdam, FedYogi, FedAvgM])
def test_strategies_with_a_memory_of_their_own_are_refused(strategy: type) -> None:
    with pytest.raises(ConfigError, match="keeps something between rounds"):
        rule_of(lambda count: strategy())(updates(4))


def test_a_run_with_a_rule_says_what_memory_it_needs_and_finishes(
    tmp_path: Path, backbone: Backbone, fake_client: ClientApp, caplog: pytest.LogCaptureFixture
) -> None:
    from shared_model.weights import save_backbone

    config = replace(BARE, rounds=2, aggregation="median", population=3, cohort=3, min_nodes=3)
    start = save_backbone(tmp_path / "start.safetensors", backbone)
    with caplog.at_level(logging.INFO, logger="flwr"):
        state = federate(
            InProcessGrid(fake_client, [{}] * 3),
            config,
            run_dir=tmp_path / "run",
            backbone=str(start),
            log=logging.getLogger("flwr"),
        )
    assert "needs all replies of a round at once" in caplog.text
    # Three updates of length clip that point the same way: the median is one of them.
    moved = float((state.backbone - flatten(backbone)).double().norm())
    assert moved == pytest.approx(2 * config.clip, rel=1e-2)
    assert memory(replace(BARE, aggregation="krum", cohort=1000, population=1000), 10**6).count("4 GB") == 1
    assert memory(BARE, 10**6) == ""


def test_too_few_replies_for_a_rule_skip_the_round(
    tmp_path: Path, backbone: Backbone, make_client: Callable[..., ClientApp], honest: Callable
) -> None:
    def act(message: Message, index: int) -> Message:
        if index > 1:
            raise RuntimeError("away")
        return honest(message, index)

    config = replace(BARE, aggregation="krum", population=4, cohort=4, min_nodes=4, quorum=0.1)
    grid = InProcessGrid(make_client(act), [{}] * 4)
    state = run(grid, StateStore(tmp_path), config=config, start=lambda: backbone)
    assert not state.reports[0].released
    assert torch.equal(state.backbone, flatten(backbone))


def test_every_rule_works_with_every_optimizer(backbone: Backbone) -> None:
    for optimizer in ("fedavg", "fedavgm", "fedadam", "fedyogi"):
        config = replace(BARE, aggregation="trimmed-mean", optimizer=optimizer, server_lr=0.1)
        state = begin(config, backbone)
        pool = gather(config, len(state.backbone), step=0.0)
        for row in updates(5, len(state.backbone)):
            pool.add(torch.from_numpy(row))
        moved = release(state, pool, config=config, keys=(), noise=lambda shape, *, std: torch.zeros(shape)).state
        assert not torch.equal(moved.backbone, state.backbone)
        assert set(moved.moments) == set(state.moments)


def test_fedyogi_moves_as_flowers_does_without_bias_correction() -> None:
    """Two steps by hand: v grows by at most (1 - beta2) of the square, whichever is larger."""
    optimizer = server_optimizer("fedyogi", rate=0.1)
    backbone, average = torch.zeros(2), torch.tensor([0.1, 0.0])
    moments = optimizer.start(backbone)
    backbone, moments = optimizer.apply(backbone, average, moments)
    second = 1e-6 + 0.01 * 0.01
    assert moments["second"].tolist() == pytest.approx([second, 1e-6 - 0.0 * 0.01], rel=1e-5)
    assert backbone.tolist() == pytest.approx([0.1 * 0.01 / (math.sqrt(second) + 1e-3), 0.0], rel=1e-5)


def test_the_streaming_sum_keeps_nothing() -> None:
    pool = gather(BARE, 4, step=0.0)
    assert isinstance(pool, StreamingSum) and pool.least == 0


def test_the_adapter_hands_over_updates_and_nothing_else() -> None:
    """Neither node, nor ledger, nor count: one array and weight one, in new messages."""
    seen: list[Message] = []

    strategy = FedMedian()
    aggregate = strategy.aggregate_train

    def spy(server_round: int, replies: list[Message]) -> object:
        seen.extend(replies)
        return aggregate(server_round, replies)

    strategy.aggregate_train = spy  # type: ignore[method-assign]
    rule_of(lambda count: strategy)(updates(3))
    assert {message.metadata.dst_node_id for message in seen} == {1}
    assert all(dict(record) == {"num-examples": 1} for m in seen for record in m.content.metric_records.values())
    assert all(isinstance(m.content[ARRAY], ArrayRecord) and not m.content.config_records for m in seen)
