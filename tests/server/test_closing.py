"""Rounds that close early: what a device's presence may change, what is charged, and who was not needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from flwr.clientapp import ClientApp

from server.budget import Budget, solve_noise
from server.closing import Closing, looks_noise, moments
from server.config import FederationConfig
from server.ledger import ServerLedger
from server.rounds import begin, plan, run
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError, PrivacyError
from shared_model.messages import ARRAY
from shared_model.split import flatten
from simulations.slow_grid import SlowGrid, VirtualClock, flaky

MakeClient = Callable[..., ClientApp]


def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def test_looks_are_before_the_deadline_and_at_equal_distances() -> None:
    assert moments(90.0, 8) == pytest.approx([10.0 * number for number in range(1, 9)])
    assert moments(90.0, 0) == ()


@pytest.mark.parametrize("given", [0.0, 40.0])
@pytest.mark.parametrize("adaptive", [False, True])
def test_looks_bit_and_sum_together_have_the_announced_multiplier(given: float, adaptive: bool) -> None:
    config = FederationConfig(close_early=True, close_looks=6, close_noise=given, adaptive_clip=adaptive)
    budget = Budget(config, 1.3)
    bits = (2.0 * budget.count_noise) ** -2 if adaptive else 0.0
    total = budget.update_noise**-2 + bits + budget.looks / budget.look_noise**2
    assert total**-0.5 == pytest.approx(1.3, rel=1e-12)
    assert budget.update_noise > 1.3
    assert budget.std(1.0) == pytest.approx(budget.update_noise)


def test_chosen_noise_on_the_looks_costs_two_percent_at_most() -> None:
    for cohort in (1, 30, 1000, 10**6):
        budget = Budget(FederationConfig(close_early=True, cohort=cohort, population=10**7), 2.0)
        assert 2.0 < budget.update_noise <= 2.0 * 1.0207
    with pytest.raises(PrivacyError, match="must be above 4"):
        looks_noise(2.0, cohort=100, looks=4, given=3.0)


def test_the_rate_of_being_asked_is_charged_everywhere(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    more = replace(config, over_selection=1.5, simulated_population=8, min_nodes=8, rounds=1)
    state = begin(more, backbone).reserve()
    request = plan(state, range(8), config=more).request
    rate = 1.5 * config.cohort / config.population
    assert request.sample_rate == request.price.sample_rate == pytest.approx(rate)
    assert Budget(more, 1.5).mechanism.sample_rate == pytest.approx(rate)
    assert Budget(more, 1.5).epsilon(5) > Budget(config, 1.5).epsilon(5)
    grid = SlowGrid(fake_client, [{}] * 8, clock=VirtualClock(), delay=lambda device, number: 0.0)
    final = run(grid, StateStore(tmp_path), config=more, start=lambda: backbone, noise=no_noise)
    assert final.reports[0].asked == 6
    (charge,) = ServerLedger(tmp_path).load().charges
    assert charge.sample_rate == pytest.approx(rate)
    # Six whole updates, divided by the planned four: the divisor does not follow who was asked.
    moved = (final.backbone - flatten(backbone)).double().norm()
    assert moved == pytest.approx(6 * config.clip / 4, rel=1e-2)


def test_noise_is_solved_for_the_larger_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[float] = []

    def calibrate(*, sample_rate: float, **named: object) -> float:
        solved.append(sample_rate)
        return 1.0

    monkeypatch.setattr("server.budget.calibrate", calibrate)
    plain = FederationConfig(rounds=50)
    for config in (replace(plain, over_selection=1.3), replace(plain, cohort=1300), plain):
        solve_noise(config)
    assert solved == pytest.approx([0.013, 0.013, 0.01])


# What a device's presence does to the sum. Six devices, planned four; device 1 answers second.
TIMES = (5.0, 6.0, 7.0, 8.0, 24.0, 29.0)


def sum_with(
    folder: Path, config: FederationConfig, backbone: Backbone, client: ClientApp, *, away: set[int], noise: Callable
) -> RoundState:
    clock = VirtualClock()
    grid = SlowGrid(client, [{}] * 6, clock=clock, delay=lambda device, number: TIMES[device])
    grid.away = {1001 + device for device in away}
    enough = replace(config, min_nodes=1, simulated_population=6 - len(away))
    return run(grid, StateStore(folder), config=enough, start=lambda: backbone, timing=clock.timing, noise=noise)


@pytest.fixture
def opposite(make_client: MakeClient, reply: Callable[..., Message]) -> ClientApp:
    """Devices whose updates are as long as the clip; device 1 and device 4 point in opposite directions."""

    def act(message: Message, index: int) -> Message:
        size = message.content.array_records[ARRAY][ARRAY].shape[0]
        return reply(message, torch.full((size,), -1.0 if index == 4 else 1.0))

    return make_client(act)


def test_an_exact_count_lets_one_device_move_the_sum_by_two_clips(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, opposite: ClientApp
) -> None:
    """Why a promise cannot rest on it: this run has none, and shows the displacement."""
    bare = FederationConfig(
        rounds=1, population=6, cohort=4, over_selection=1.5, unprotected=True, close_early=True, clip=0.5
    )
    moved = []
    for away in (set(), {1}):
        clock = VirtualClock()
        grid = SlowGrid(opposite, [{}] * 6, clock=clock, delay=lambda device, number: TIMES[device])
        grid.away = {1001 + device for device in away}
        folder = tmp_path / str(len(away))
        final = run(grid, StateStore(folder), config=bare, start=lambda: backbone, timing=clock.timing, noise=no_noise)
        assert final.reports[0].accepted == 4
        moved.append(final.backbone.double())
    assert (moved[0] - moved[1]).norm() == pytest.approx(2 * bare.clip / 4, rel=1e-2)


def test_under_user_level_noise_one_device_moves_the_sum_by_one_clip(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, opposite: ClientApp
) -> None:
    """The same devices and looks that came out alike: whoever answered by then is in, and nobody else moves."""
    early = replace(config, rounds=1, over_selection=1.5, close_early=True, close_looks=2, quorum=0.1)
    looks: list[float] = []

    def second_look(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        if shape != (1,):
            return torch.zeros(shape, dtype=torch.float64)
        looks.append(std)
        return torch.full(shape, -9.0 if len(looks) % 2 else 9.0, dtype=torch.float64)

    runs = [
        sum_with(tmp_path / str(len(away)), early, backbone, opposite, away=away, noise=second_look)
        for away in (set(), {1})
    ]
    with_it, without = (state.reports[0] for state in runs)
    assert looks == [pytest.approx(Budget(early, 1.5).look_std)] * 4
    assert (with_it.accepted, without.accepted) == (4, 3)
    assert with_it.reasons == {"not needed": 2}
    assert float((runs[0].backbone - runs[1].backbone).double().norm()) == pytest.approx(early.clip / 4, rel=1e-2)


def test_the_server_never_counts_exactly_where_the_count_must_be_noised(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    clock, seen = VirtualClock(), []

    def noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        seen.append((shape, std, clock.now))
        return torch.zeros(shape, dtype=torch.float64)

    early = replace(
        config, rounds=1, over_selection=1.5, close_early=True, close_looks=2, simulated_population=6, min_nodes=6
    )
    times = (0.0, 0.0, 0.0, 0.0, 25.0, 26.0)
    grid = SlowGrid(fake_client, [{}] * 6, clock=clock, delay=lambda device, number: times[device])
    state = run(grid, StateStore(tmp_path), config=early, start=lambda: backbone, timing=clock.timing, noise=noise)
    # Four had answered at once; still the round stays open until the first public moment, 10 s.
    assert [shape for shape, _, _ in seen] == [(1,), (len(state.backbone),)]
    assert 10.0 <= seen[0][2] < 13.0
    assert state.reports[0].reasons == {"not needed": 2}


def test_a_round_that_is_repeated_after_a_crash_does_not_look_again(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    """Its looks are paid for once, and the first attempt may have made them."""

    class Killed(BaseException):
        pass

    looks: list[float] = []
    dying = [True]

    def noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        if shape == (1,):
            looks.append(std)
            if dying:
                raise Killed
        return torch.zeros(shape, dtype=torch.float64)

    early = replace(
        config, rounds=2, over_selection=1.5, close_early=True, close_looks=2, simulated_population=6, min_nodes=6
    )

    def go_on() -> RoundState:
        clock = VirtualClock()
        grid = SlowGrid(fake_client, [{}] * 6, clock=clock, delay=lambda device, number: 25.0 * (device > 3))
        return run(grid, StateStore(tmp_path), config=early, start=lambda: backbone, timing=clock.timing, noise=noise)

    with pytest.raises(Killed):
        go_on()
    assert len(looks) == 1
    dying.clear()
    first, second = go_on().reports
    assert len(looks) == 2, "one by the attempt that died, one by the second round"
    assert first.accepted == 6 and second.accepted == 4 and second.reasons == {"not needed": 2}


def test_moments_that_passed_together_are_one_look() -> None:
    drawn: list[float] = []

    def noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        drawn.append(std)
        return torch.zeros(shape, dtype=torch.float64)

    closing = Closing(10, at=moments(90.0, 8), std=2.0, noise=noise)
    assert not closing.full(99)
    assert not closing.look(99, 9.9)
    assert not closing.look(9, 35.0)
    assert not closing.look(99, 36.0)
    assert closing.look(10, 40.0) and closing.closed
    assert drawn == [2.0, 2.0]


def test_without_noise_to_keep_a_round_closes_with_the_last_that_is_needed(
    tmp_path: Path, backbone: Backbone, fake_client: ClientApp
) -> None:
    config = FederationConfig(
        rounds=3, population=40, cohort=10, over_selection=4.0, unprotected=True, close_early=True
    )
    clock = VirtualClock()
    grid = SlowGrid(fake_client, [{}] * 40, clock=clock, delay=flaky(typical_s=20.0, lost=0.1, seed=3))
    state = run(grid, StateStore(tmp_path), config=config, start=lambda: backbone, timing=clock.timing)
    assert [report.accepted for report in state.reports] == [10, 10, 10]
    assert all(report.reasons["not needed"] == report.asked - 10 for report in state.reports)
    assert clock.now < 0.2 * config.deadline_s


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"over_selection": 0.9}, "over_selection must be 1 or more"),
        ({"over_selection": math.nan}, "over_selection"),
        ({"over_selection": 101.0}, "of only 100000"),
        ({"close_noise": 5.0}, "close_noise is for"),
        ({"close_early": True, "close_noise": 5.0, "unprotected": True}, "user-level noise"),
        ({"close_early": True, "secure_aggregation": True}, "cannot be closed early"),
        ({"close_looks": 0}, "close_looks"),
    ],
)
def test_nonsense_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FederationConfig(**changes)
