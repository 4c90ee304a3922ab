"""The loop: streaming, resuming, charging before asking, surviving bad devices."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from server.admission import Verdict
from server.config import FederationConfig
from server.rounds import begin, plan, run, step
from server.state import StateStore
from server.transport import Timing
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError, FederationError, Interrupted, PrivacyError
from shared_model.messages import REPLY
from shared_model.split import flatten
from simulations.grid import InProcessGrid

MakeClient = Callable[..., ClientApp]


def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def grid_of(client: ClientApp, count: int = 4) -> InProcessGrid:
    return InProcessGrid(client, [{}] * count)


def test_two_rounds_move_the_backbone_by_the_average(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    state = run(grid_of(fake_client), StateStore(tmp_path), config=config, start=lambda: backbone, noise=no_noise)
    size = len(flatten(backbone))
    # Every update is clipped to the same length, so each round moves by exactly the clip.
    moved = (state.backbone - flatten(backbone)).double()
    assert moved.norm() == pytest.approx(2 * config.clip, rel=1e-2)
    assert state.round == state.reserved == 2
    assert [report.accepted for report in state.reports] == [4, 4]
    assert state.reports[0].bytes_up == pytest.approx(4 * size, abs=4 * 256)
    assert state.reports[0].bytes_down == pytest.approx(4 * 4 * size, abs=4 * 256)
    assert 0 < state.reports[0].epsilon < state.reports[1].epsilon < state.reports[1].run_epsilon


def test_noise_has_the_rescaled_size(config: FederationConfig, backbone: Backbone) -> None:
    deviations: list[float] = []

    def spy(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        deviations.append(std)
        return torch.zeros(shape, dtype=torch.float64)

    with_quorum = replace(config, rounds=1, quorum=0.01)
    state = begin(with_quorum, backbone).reserve()
    current = plan(state, [1, 2, 3, 4], config=with_quorum)
    update = torch.zeros_like(state.backbone)
    step(state, current, [Verdict(1, update=update)], config=with_quorum, noise=spy)
    assert deviations == [pytest.approx(1.5 * 0.5 * 4 / 10_000)]


def test_privacy_is_saved_before_a_device_is_asked(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: MakeClient,
    honest: Callable,
) -> None:
    store, seen = StateStore(tmp_path), []

    def act(message: Message, index: int) -> Message:
        saved = store.load()
        seen.append((saved.round, saved.reserved))
        return honest(message, index)

    run(grid_of(make_client(act)), store, config=config, start=lambda: backbone)
    assert seen == [(0, 1)] * 4 + [(1, 2)] * 4


def test_step_refuses_a_round_that_was_not_charged(config: FederationConfig, backbone: Backbone) -> None:
    state = begin(config, backbone)
    with pytest.raises(PrivacyError, match="not charged"):
        step(state, plan(state, [1, 2], config=config), [], config=config)


def test_interrupted_round_is_repeated_under_the_same_charge(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: MakeClient,
    honest: Callable,
) -> None:
    store, calls = StateStore(tmp_path), []

    def act(message: Message, index: int) -> Message:
        calls.append(index)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return honest(message, index)

    grid = grid_of(make_client(act))
    with pytest.raises(Interrupted, match="round 2 of 2; 1 finished"):
        run(grid, store, config=config, start=lambda: backbone, noise=no_noise)
    saved = store.load()
    assert (saved.round, saved.reserved) == (1, 2)
    state = run(grid, store, config=config, start=lambda: pytest.fail("started anew"), noise=no_noise)
    assert (state.round, state.reserved, state.run) == (2, 2, saved.run)
    undisturbed = run(
        grid_of(make_client(honest)), StateStore(tmp_path / "b"), config=config, start=lambda: backbone, noise=no_noise
    )
    assert torch.allclose(state.backbone, undisturbed.backbone, atol=1e-3)
    assert state.reports[-1].epsilon == undisturbed.reports[-1].epsilon


def test_finished_run_is_not_run_again(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    store = StateStore(tmp_path)
    first = run(grid_of(fake_client), store, config=config, start=lambda: backbone)
    again = run(grid_of(fake_client), store, config=config, start=lambda: backbone)
    assert torch.equal(first.backbone, again.backbone)
    assert len(again.reports) == 2


def test_changed_configuration_is_refused_by_name(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    store = StateStore(tmp_path)
    run(grid_of(fake_client), store, config=config, start=lambda: backbone)
    changed = replace(config, clip=5.0, rounds=3)
    with pytest.raises(ConfigError, match=r"clip was 0\.5, now 5\.0, rounds was 2, now 3"):
        run(grid_of(fake_client), store, config=changed, start=lambda: backbone)


def test_bad_devices_neither_end_nor_poison_a_round(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: MakeClient,
    honest: Callable,
) -> None:
    def act(message: Message, index: int) -> Message:
        if index == 0:
            raise RuntimeError("device on fire") from ValueError("the first cause")
        reply = honest(message, index)
        if index == 1:
            reply.content[REPLY]["scale"] = 0.4
        return reply

    grid = grid_of(make_client(act))
    state = run(grid, StateStore(tmp_path), config=replace(config, rounds=1), start=lambda: backbone, noise=no_noise)
    report = state.reports[0]
    assert (report.asked, report.accepted) == (4, 2)
    assert report.reasons == {"error 2": 1, "norm above the clip": 1}
    assert grid.failures == ["node 1001: ValueError: the first cause"]
    # Two honest updates of length clip, divided by the planned four.
    assert (state.backbone - flatten(backbone)).norm() == pytest.approx(config.clip / 2, rel=1e-2)


def test_below_quorum_the_round_is_skipped_and_stays_charged(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: MakeClient,
    honest: Callable,
) -> None:
    def act(message: Message, index: int) -> Message:
        return honest(message, index) if index == 0 else Message(Error(9, "no"), reply_to=message)

    state = run(grid_of(make_client(act)), StateStore(tmp_path), config=config, start=lambda: backbone)
    assert torch.equal(state.backbone, flatten(backbone))
    assert [report.released for report in state.reports] == [False, False]
    assert state.reserved == 2
    assert state.reports[1].epsilon > 0


def test_too_few_nodes_end_with_a_hint(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    timing = Timing(clock=lambda: now[0], sleep=sleep)
    with pytest.raises(FederationError, match="only 3 of 4 devices"):
        run(grid_of(fake_client, 3), StateStore(tmp_path), config=config, start=lambda: backbone, timing=timing)
    assert now[0] >= config.wait_s


def test_replies_after_the_deadline_are_late(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: MakeClient,
    honest: Callable,
) -> None:
    now = [0.0]

    def act(message: Message, index: int) -> Message:
        now[0] += 12.0
        return honest(message, index)

    state = run(
        grid_of(make_client(act)),
        StateStore(tmp_path),
        config=replace(config, rounds=1),
        start=lambda: backbone,
        timing=Timing(clock=lambda: now[0], sleep=lambda seconds: None),
    )
    assert state.reports[0].accepted == 3
    assert state.reports[0].reasons == {"late": 1}


def test_simulated_cohort_is_the_same_after_a_resume(config: FederationConfig, backbone: Backbone) -> None:
    smaller = replace(config, rounds=9, simulated_cohort=2)
    state = begin(smaller, backbone)
    first = plan(state, [4, 3, 2, 1], config=smaller).nodes
    assert plan(state, [1, 2, 3, 4], config=smaller).nodes == first
    assert len(first) == 2
    later = {plan(replace(state, round=r), [1, 2, 3, 4], config=smaller).nodes for r in range(1, 9)}
    assert len(later) > 1


def test_real_fleet_is_poisson_sampled(config: FederationConfig, backbone: Backbone) -> None:
    real = replace(config, simulated_population=0, simulated_cohort=0, rescale_noise=False, accept_loud_noise=True)
    state = begin(real, backbone)
    nodes = list(range(20_000))
    counts = [len(plan(state, nodes, config=real).nodes) for _ in range(3)]
    assert all(abs(count - 2000) < 6 * 43 for count in counts)
    assert len(set(counts)) > 1 or plan(state, nodes, config=real).nodes != plan(state, nodes, config=real).nodes


def test_noise_that_drowns_a_fleet_is_refused(config: FederationConfig, backbone: Backbone) -> None:
    tiny = replace(
        config, simulated_population=0, simulated_cohort=0, rescale_noise=False, population=100, cohort=10, clip=1.0
    )
    with pytest.raises(PrivacyError, match="100 devices"):
        begin(tiny, backbone)


def test_memory_holds_one_reply_at_a_time(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: MakeClient,
    honest: Callable,
) -> None:
    alive: list[weakref.ref[Message]] = []
    most = [0]

    def act(message: Message, index: int) -> Message:
        gc.collect()
        most[0] = max(most[0], sum(ref() is not None for ref in alive))
        reply = honest(message, index)
        alive.append(weakref.ref(reply))
        return reply

    many = replace(config, rounds=1, simulated_population=12, simulated_cohort=12, min_nodes=12)
    state = run(grid_of(make_client(act), 12), StateStore(tmp_path), config=many, start=lambda: backbone)
    assert state.reports[0].accepted == 12
    assert most[0] <= 2
