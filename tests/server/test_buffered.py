"""Buffered rounds: nobody waits for the slowest, late updates weigh less, privacy takes no credit for sampling."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from server.admission import Verdict
from server.budget import Budget
from server.cohort import choose_idle
from server.config import FederationConfig
from server.ledger import ServerLedger
from server.rounds import Plan, begin, plan, run, step
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError, Interrupted
from shared_model.factorization import Factorization
from shared_model.messages import ARRAY, SETTINGS
from shared_model.split import flatten
from simulations.slow_grid import SlowGrid, VirtualClock, flaky

MakeClient = Callable[..., ClientApp]
OPEN = FederationConfig(
    rounds=6,
    population=12,
    cohort=3,
    mode="buffered",
    concurrency=6,
    max_staleness=2,
    unprotected=True,
    deadline_s=500.0,
    clip=0.5,
)
PRIVATE = FederationConfig(
    rounds=12,
    population=100_000,
    cohort=10_000,
    mode="buffered",
    mechanism="factorized",
    min_separation=6,
    max_staleness=2,
    noise_multiplier=1.5,
    simulated_population=40,
    simulated_cohort=4,
    rescale_noise=True,
    concurrency=8,
    clip=0.5,
    deadline_s=300.0,
    min_nodes=40,
)


def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


class Log:
    """Who answered which release when, and which releases moved the backbone."""

    def __init__(self) -> None:
        self.rounds: dict[int, list[int]] = defaultdict(list)

    def client(self, make_client: MakeClient, honest: Callable) -> ClientApp:
        def act(message: Message, index: int) -> Message:
            self.rounds[index].append(int(message.content.config_records[SETTINGS]["round"]))
            return honest(message, index)

        return make_client(act)


def go(folder: Path, config: FederationConfig, backbone: Backbone, client: ClientApp, delay: Callable, **more):
    clock = VirtualClock()
    grid = SlowGrid(client, [{}] * config.existing, clock=clock, delay=delay)
    state = run(grid, StateStore(folder), config=config, start=lambda: backbone, timing=clock.timing, **more)
    return state, clock


def test_a_straggler_holds_up_nobody_and_comes_in_late_with_less_weight(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    slow = {0: 25.0}
    state, clock = go(
        tmp_path, OPEN, backbone, Log().client(make_client, honest), lambda device, number: slow.get(device, 10.0)
    )
    assert [report.accepted for report in state.reports] == [3] * 6
    assert sum(report.staleness for report in state.reports) > 0
    assert clock.now < 60.0  # six releases; rounds that wait for the slowest would take 6 x 25 s
    assert state.asked


def test_late_updates_weigh_less_and_never_more_than_the_clip(backbone: Backbone) -> None:
    config = replace(OPEN, rounds=1, quorum=0.1)
    state = begin(config, backbone).reserve()
    current = Plan(plan(state, (), config=config).request, ())
    update = torch.full_like(state.backbone, 1.0)
    update *= config.clip / update.norm()
    for staleness in (0, 1, 2):
        after = step(state, current, [Verdict(1, update=update, staleness=staleness)], config=config, noise=no_noise)
        moved = float((after.backbone - state.backbone).double().norm())
        assert moved == pytest.approx(config.clip / 3 / math.sqrt(1 + staleness), rel=1e-3)
        assert after.reports[0].staleness == staleness


def test_contributions_of_a_device_are_as_far_apart_as_is_accounted(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The theorem of the module: asked 6 releases apart, up to 2 late, hence released at least 4 apart."""
    landed: dict[int, list[int]] = defaultdict(list)
    from server import buffered

    judge = buffered.Flight.judge

    def spy(self: buffered.Flight, number: int) -> Verdict | None:
        verdict = judge(self, number)
        if verdict is not None and verdict.update is not None:
            landed[verdict.node].append(number)
        return verdict

    monkeypatch.setattr(buffered.Flight, "judge", spy)
    log = Log()
    delay = flaky(typical_s=30.0, lost=0.1, seed=1)
    state, _ = go(tmp_path, PRIVATE, backbone, log.client(make_client, honest), delay, noise=no_noise)
    assert state.round == 12
    gaps = [b - a for numbers in landed.values() for a, b in pairwise(numbers)]
    asked = [b - a for numbers in log.rounds.values() for a, b in pairwise(numbers)]
    assert gaps and min(gaps) >= 4 == PRIVATE.factorization.separation
    assert min(asked) >= 6
    assert {report.staleness > 0 for report in state.reports} == {True, False}


def test_privacy_is_that_of_the_shorter_separation_and_no_sampling() -> None:
    budget = Budget(PRIVATE, 1.5)
    assert budget.mechanism.sample_rate == 1.0
    assert PRIVATE.factorization == Factorization(12, 4)
    scale = 4 / 10_000
    assert budget.std(0.5) == pytest.approx(1.5 * Factorization(12, 4).sensitivity() * 0.5 * scale)
    plain = Budget(replace(PRIVATE, mode="rounds", concurrency=0), 1.5)
    assert budget.std(0.5) > plain.std(0.5)
    facts = budget.statement(3, parameters=10)
    assert (facts["min_separation"], facts["accounted_separation"], facts["mode"]) == (6, 4, "buffered")
    assert "for what it sent, not for when" in facts["says"]


def test_every_release_is_charged_before_anything_is_sent(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    store, seen = StateStore(tmp_path), []

    def act(message: Message, index: int) -> Message:
        saved = store.load()
        seen.append(saved.reserved - int(message.content.config_records[SETTINGS]["round"]))
        return honest(message, index)

    go(tmp_path, OPEN, backbone, make_client(act), lambda device, number: 10.0)
    assert seen and min(seen) >= 0
    charges = ServerLedger(tmp_path).load().charges
    assert [charge.state for charge in charges] == ["released"] * 6


def test_a_crash_repeats_the_release_under_its_charge_with_other_devices(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    log, calls = Log(), [0]
    inner = log.client(make_client, honest)

    def dying(message: Message, context: object) -> Message:
        calls[0] += 1
        if calls[0] == 10:
            raise KeyboardInterrupt
        return inner(message, context)

    delay = flaky(typical_s=20.0, lost=0.0, seed=2)
    with pytest.raises(Interrupted):
        go(tmp_path, PRIVATE, backbone, dying, delay, noise=no_noise)
    before = StateStore(tmp_path).load()
    assert before.reserved == before.round + 1
    state, _ = go(tmp_path, PRIVATE, backbone, dying, delay, noise=no_noise)
    assert state.round == state.reserved == 12 and state.extra == 0 and state.run == before.run
    asked = [b - a for numbers in log.rounds.values() for a, b in pairwise(numbers)]
    assert min(asked) >= 6


def test_without_noise_a_crash_repeats_the_release_with_the_same_devices(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    """All devices of a small fleet fill a buffer: without them nothing could, and the release would never end."""
    config = replace(OPEN, rounds=3, population=3, cohort=3, concurrency=0)
    calls = [0]

    def dying(message: Message, index: int) -> Message:
        calls[0] += 1
        if calls[0] == 5:
            raise KeyboardInterrupt
        return honest(message, index)

    def after(folder: Path, client: Callable) -> torch.Tensor:
        state, clock = go(folder, config, backbone, make_client(client), lambda device, number: 10.0)
        assert [report.accepted for report in state.reports] == [3, 3, 3]
        assert clock.timing.clock() < config.deadline_s
        return state.backbone

    with pytest.raises(Interrupted):
        after(tmp_path / "killed", dying)
    assert torch.equal(after(tmp_path / "killed", dying), after(tmp_path / "whole", honest))


def test_devices_that_never_answer_lose_their_places(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    gone = {0, 1, 2, 3, 4, 5}
    delay = lambda device, number: None if device in gone else 10.0  # noqa: E731
    longer = replace(OPEN, rounds=10, deadline_s=40.0, quorum=0.3)
    state, _ = go(tmp_path, longer, backbone, Log().client(make_client, honest), delay)
    reasons = defaultdict(int)
    for report in state.reports:
        for reason, count in report.reasons.items():
            reasons[reason] += count
    assert reasons["late"] >= 6
    assert any(report.released for report in state.reports)


def test_updates_that_come_too_late_are_dropped_with_their_reason(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    """Ten answers wait when a buffer of one is filled: the last of them are more than two releases old."""
    config = replace(OPEN, rounds=5, cohort=1, concurrency=10)
    state, _ = go(tmp_path, config, backbone, Log().client(make_client, honest), lambda device, number: 5.0)
    assert [report.staleness for report in state.reports][:3] == [0.0, 1.0, 2.0]
    assert sum(report.reasons.get("too old", 0) for report in state.reports) == 7


def test_errors_and_bad_updates_free_a_place_and_spoil_nothing(
    tmp_path: Path, backbone: Backbone, make_client: MakeClient, honest: Callable, reply: Callable
) -> None:
    def act(message: Message, index: int) -> Message:
        if index % 3 == 0:
            return Message(Error(103, "x"), reply_to=message)
        if index % 3 == 1:
            size = message.content.array_records[ARRAY][ARRAY].shape[0]
            return reply(message, torch.ones(size), scale=float("nan"))
        return honest(message, index)

    state, _ = go(tmp_path, OPEN, backbone, make_client(act), lambda device, number: 10.0)
    assert all(report.released for report in state.reports)
    reasons = set().union(*(report.reasons for report in state.reports))
    assert reasons == {"bad scale", "failed on the device"}
    assert torch.isfinite(state.backbone).all()
    # No release is longer than the clip, whoever is in it.
    assert float((state.backbone - flatten(backbone)).double().norm()) <= 6 * OPEN.clip * (1 + 1e-5)


def test_nobody_is_asked_twice_at_a_time_or_for_one_release() -> None:
    nodes, busy = list(range(10)), {0, 1, 2}
    chosen = choose_idle(nodes, round=5, asked={3: 5, 4: 4}, busy=busy, config=OPEN)
    assert len(chosen) == 3
    assert not {0, 1, 2, 3} & set(chosen)
    assert choose_idle(nodes, round=5, asked={}, busy=set(range(6)), config=OPEN) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unprotected": False}, "no random sample"),
        ({"secure_aggregation": True}, "secure aggregation needs all devices"),
        ({"adaptive_clip": True}, "older clip"),
        ({"aggregation": "median"}, "smaller weights"),
        ({"over_selection": 1.5}, "closed when it is full"),
        ({"close_early": True}, "closed when it is full"),
        ({"concurrency": 2}, "cannot fill a buffer"),
        ({"mode": "rounds"}, "concurrency is for buffered"),
        ({"mode": "asynchronous"}, "mode must be one of"),
        ({"max_staleness": -1}, "max_staleness"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(OPEN, **changes)


@pytest.mark.parametrize("separation", [1, 2])
def test_a_separation_within_the_staleness_is_refused(separation: int) -> None:
    with pytest.raises(ConfigError, match="could meet in one release"):
        replace(PRIVATE, min_separation=separation)
