"""What leaves the server after a round: an adapted clip that is honest, correlated noise that survives a restart."""

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message
from flwr.clientapp import ClientApp

from server import status
from server.config import FederationConfig
from server.outputs import write_backbone, write_progress
from server.report import to_csv
from server.rounds import begin, plan, run, step
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.correlated import key_stream
from shared_model.errors import Interrupted, PrivacyError
from shared_model.factorization import factor
from shared_model.messages import ARRAY, SETTINGS
from shared_model.noise import secure_normal
from shared_model.split import flatten
from simulations.grid import InProcessGrid

MakeClient = Callable[..., ClientApp]


class Draws:
    """Zeros in place of noise, and a note of each deviation asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], float]] = []

    def __call__(self, shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        self.asked.append((shape, std))
        return torch.zeros(shape, dtype=torch.float64)


class Keys:
    """Keys as in a given order, in place of the operating system's."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return hashlib.sha256(str(self.count).encode()).digest()[:size]


@pytest.fixture
def adaptive(config: FederationConfig) -> FederationConfig:
    return replace(config, rounds=7, adaptive_clip=True, clip=0.1, clip_max=1000.0)


@pytest.fixture
def long_updates(make_client: MakeClient, reply: Callable) -> ClientApp:
    """Every device has an update of length 10."""

    def act(message: Message, index: int) -> Message:
        size = message.content.array_records[ARRAY][ARRAY].shape[0]
        return reply(message, torch.full((size,), 10.0 / size**0.5))

    return make_client(act)


# ---- adaptive clipping ---------------------------------------------------------------------------


def test_the_clip_grows_under_long_updates_and_the_old_clip_scales_the_noise(
    tmp_path: Path, adaptive: FederationConfig, backbone: Backbone, long_updates: ClientApp
) -> None:
    draws = Draws()
    grid = InProcessGrid(long_updates, [{}] * 4)
    state = run(grid, StateStore(tmp_path), config=adaptive, start=lambda: backbone, noise=draws)
    clips = [report.clip for report in state.reports]
    # Nobody is within the clip, so each round multiplies it by exp(0.2 * 0.5).
    assert [*clips, state.clip] == pytest.approx([0.1 * np.exp(0.1) ** number for number in range(8)])
    size, scale = len(state.backbone), 4 / 10_000
    updates = (1.5**-2 - 1000.0**-2) ** -0.5 * scale
    wanted = [((size,), updates * clip) for clip in clips]
    assert draws.asked[::2] == [(shape, pytest.approx(std)) for shape, std in wanted]
    assert draws.asked[1::2] == [((1,), pytest.approx(500.0 * scale))] * 7
    # Every update was cut to its round's clip, and the average moved the backbone by it.
    assert float((state.backbone - flatten(backbone)).norm()) == pytest.approx(sum(clips), rel=0.02)


def test_short_updates_shrink_the_clip(
    tmp_path: Path, adaptive: FederationConfig, backbone: Backbone, long_updates: ClientApp
) -> None:
    wide = replace(adaptive, clip=50.0, rounds=2)
    grid = InProcessGrid(long_updates, [{}] * 4)
    state = run(grid, StateStore(tmp_path), config=wide, start=lambda: backbone, noise=Draws())
    assert state.clip == pytest.approx(50.0 * np.exp(-0.2))


def test_the_clip_stops_at_its_limit(
    tmp_path: Path, adaptive: FederationConfig, backbone: Backbone, long_updates: ClientApp
) -> None:
    bounded = replace(adaptive, clip_max=0.13)
    grid = InProcessGrid(long_updates, [{}] * 4)
    state = run(grid, StateStore(tmp_path), config=bounded, start=lambda: backbone, noise=Draws())
    assert state.clip == 0.13


def test_noise_enters_the_count_before_it_moves_the_clip(
    tmp_path: Path, adaptive: FederationConfig, backbone: Backbone, long_updates: ClientApp
) -> None:
    def loud(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        return torch.full(shape, std if shape == (1,) else 0.0, dtype=torch.float64)

    once = replace(adaptive, rounds=1)
    grid = InProcessGrid(long_updates, [{}] * 4)
    state = run(grid, StateStore(tmp_path), config=once, start=lambda: backbone, noise=loud)
    assert state.reports[0].within == pytest.approx(500.0 * 4 / 10_000 / 4)
    assert state.clip == pytest.approx(0.1 * np.exp(-0.2 * (0.05 - 0.5)))


def test_a_resumed_run_has_the_clips_of_an_undisturbed_one(
    tmp_path: Path, adaptive: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    calls: list[int] = []

    def act(message: Message, index: int) -> Message:
        calls.append(index)
        if len(calls) == 18:  # in round 5
            raise KeyboardInterrupt
        return honest(message, index)

    def go(folder: str, client: ClientApp) -> RoundState:
        grid = InProcessGrid(client, [{}] * 4)
        return run(grid, StateStore(tmp_path / folder), config=adaptive, start=lambda: backbone, noise=Draws())

    disturbed = make_client(act)
    with pytest.raises(Interrupted):
        go("a", disturbed)
    saved = StateStore(tmp_path / "a").load()
    assert (saved.round, saved.reserved, len(saved.reports)) == (4, 5, 4)
    assert saved.clip != adaptive.clip
    resumed, straight = go("a", disturbed), go("b", make_client(honest))
    assert resumed.clip == straight.clip
    assert [(r.clip, r.within) for r in resumed.reports] == [(r.clip, r.within) for r in straight.reports]


def test_a_skipped_round_leaves_the_clip_alone_and_draws_nothing(
    adaptive: FederationConfig, backbone: Backbone
) -> None:
    state, draws = begin(adaptive, backbone).reserve(), Draws()
    after = step(state, plan(state, [1, 2, 3, 4], config=adaptive), [], config=adaptive, noise=draws)
    assert (after.clip, after.reports[0].within, draws.asked) == (0.1, None, [])


def test_csv_status_and_privacy_json_show_the_clip_of_each_round(
    tmp_path: Path,
    adaptive: FederationConfig,
    backbone: Backbone,
    long_updates: ClientApp,
) -> None:
    few = replace(adaptive, rounds=3)
    state = run(
        InProcessGrid(long_updates, [{}] * 4), StateStore(tmp_path), config=few, start=lambda: backbone, noise=Draws()
    )
    write_progress(tmp_path, state, few)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rounds.csv").read_text())))
    clips = [report.clip for report in state.reports]
    assert [float(row["clip"]) for row in rows] == pytest.approx(clips, rel=1e-5)
    assert [row["within"] for row in rows] == ["0", "0", "0"]
    facts = json.loads((tmp_path / "privacy.json").read_text())
    assert facts["clips"] == clips
    assert facts["adaptive_clip"] is True
    assert status.facts(tmp_path)["privacy"]["clips"] == clips
    text = status.show(tmp_path, as_json=False)
    assert all(f"clip {clip:.3g}" in text for clip in clips)


def test_a_fixed_clip_has_no_count(config: FederationConfig, backbone: Backbone) -> None:
    state = begin(config, backbone)
    assert plan(state, [1], config=config).request.adaptive_clip is False
    rows = to_csv([replace(_report(state), within=None)]).splitlines()
    assert rows[1].split(",")[rows[0].split(",").index("within")] == ""


def _report(state: RoundState) -> object:
    from server.report import RoundReport

    return RoundReport(1, clip=state.clip)


def test_too_little_noise_on_the_count_is_refused_at_the_start(config: FederationConfig, backbone: Backbone) -> None:
    with pytest.raises(PrivacyError, match=r"must be above 0\.75"):
        begin(replace(config, adaptive_clip=True, count_noise=0.7), backbone)


# ---- correlated noise ----------------------------------------------------------------------------


@pytest.fixture
def factorized(config: FederationConfig) -> FederationConfig:
    return replace(
        config,
        rounds=5,
        mechanism="factorized",
        min_separation=2,
        simulated_population=8,
        simulated_cohort=4,
        min_nodes=8,
        noise_multiplier=3.0,
        server_lr=1.0,
        cohort=100,
        population=10_000,
    )


@pytest.fixture
def still(make_client: MakeClient, reply: Callable) -> ClientApp:
    """Every update is zero, so that the backbone shows the noise alone."""

    def act(message: Message, index: int) -> Message:
        return reply(message, torch.zeros(message.content.array_records[ARRAY][ARRAY].shape[0]))

    return make_client(act)


def test_noise_of_a_run_is_the_correlated_one_at_the_stated_size(
    tmp_path: Path, factorized: FederationConfig, backbone: Backbone, still: ClientApp
) -> None:
    backbones: list[torch.Tensor] = [flatten(backbone)]
    run(
        InProcessGrid(still, [{}] * 8),
        StateStore(tmp_path),
        config=factorized,
        start=lambda: backbone,
        on_round=lambda state, report: backbones.append(state.backbone),
        entropy=Keys(),
    )
    added = [(after - before).double() for before, after in itertools.pairwise(backbones)]
    plan_ = factorized.factorization
    std = 3.0 * plan_.sensitivity() * factorized.clip * (4 / 100) / 4
    column, keys = factor(5), Keys()
    for number in range(5):
        fresh = sum(column[number - j] * added[j] for j in range(number + 1))
        expected = secure_normal(fresh.shape, std=std, entropy=key_stream(keys(32)))
        assert torch.allclose(fresh, expected, atol=1e-3 * std)
    # The end of the run is far less noisy than the sum of its fresh parts.
    assert float((backbones[-1] - backbones[0]).std()) < 0.8 * std * 5**0.5


def test_after_a_restart_the_noise_history_goes_on(
    tmp_path: Path, factorized: FederationConfig, backbone: Backbone, still: ClientApp
) -> None:
    def go(folder: str, *, stop: int, keys: Keys) -> RoundState:
        def on_round(state: RoundState, report: object) -> None:
            if state.round == stop:
                raise KeyboardInterrupt

        return run(
            InProcessGrid(still, [{}] * 8),
            StateStore(tmp_path / folder),
            config=factorized,
            start=lambda: backbone,
            on_round=on_round,
            entropy=keys,
        )

    with pytest.raises(Interrupted):
        go("a", stop=3, keys=Keys())
    saved = StateStore(tmp_path / "a").load()
    keys = Keys()
    assert saved.noise_keys == (keys(32), keys(32), keys(32))
    resumed = go("a", stop=0, keys=Keys(start=3))
    straight = go("b", stop=0, keys=Keys())
    assert torch.equal(resumed.backbone, straight.backbone)
    assert [r.epsilon for r in resumed.reports] == [r.epsilon for r in straight.reports]
    assert resumed.noise_keys == (), "the keys are needed no longer"


def test_a_round_that_was_interrupted_has_released_nothing_and_draws_a_new_key(
    tmp_path: Path, factorized: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    roomy = replace(factorized, simulated_population=16, min_nodes=16)
    asked: dict[int, list[int]] = {}
    calls: list[int] = []

    def act(message: Message, index: int) -> Message:
        calls.append(index)
        number = int(message.content.config_records[SETTINGS]["round"])
        asked.setdefault(index, []).append(number)
        if len(calls) == 10:  # in round 3
            raise KeyboardInterrupt
        return honest(message, index)

    grid, store, keys = InProcessGrid(make_client(act), [{}] * 16), StateStore(tmp_path), Keys()
    with pytest.raises(Interrupted):
        run(grid, store, config=roomy, start=lambda: backbone, entropy=keys)
    saved = store.load()
    assert (saved.round, saved.reserved, len(saved.noise_keys)) == (2, 3, 2)
    state = run(grid, store, config=roomy, start=lambda: backbone, entropy=keys)
    assert keys.count == 5
    assert [report.accepted for report in state.reports] == [4] * 5
    # Nobody was asked for one round twice, nor for two rounds closer than the separation.
    assert all(b - a >= 2 for rounds in asked.values() for a, b in itertools.pairwise(rounds))


def test_a_skipped_round_keeps_its_place_in_the_noise(factorized: FederationConfig, backbone: Backbone) -> None:
    state = begin(factorized, backbone).reserve()
    after = step(state, plan(state, range(8), config=factorized), [], config=factorized, entropy=Keys())
    assert not after.reports[0].released
    assert len(after.noise_keys) == after.round == 1


def test_keys_appear_in_the_state_alone_and_only_for_its_owner(
    tmp_path: Path, factorized: FederationConfig, backbone: Backbone, still: ClientApp
) -> None:
    def stop(state: RoundState, report: object) -> None:
        write_progress(tmp_path, state, factorized)
        write_backbone(tmp_path, state, factorized)
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(
            InProcessGrid(still, [{}] * 8),
            StateStore(tmp_path),
            config=factorized,
            start=lambda: backbone,
            on_round=stop,
        )
    key = StateStore(tmp_path).load().noise_keys[0]
    holders = [path.name for path in tmp_path.rglob("*") if path.is_file() and _holds(path.read_bytes(), key)]
    assert holders == ["state.safetensors"]
    assert (tmp_path / "state.safetensors").stat().st_mode & 0o777 == 0o600
    assert key.hex() not in status.show(tmp_path, as_json=True)


def _holds(data: bytes, key: bytes) -> bool:
    return key in data or key.hex().encode() in data


def test_sampled_rounds_keep_no_key(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    run(InProcessGrid(fake_client, [{}] * 4), StateStore(tmp_path), config=config, start=lambda: backbone)
    assert StateStore(tmp_path).load().noise_keys == ()


def test_the_request_says_what_devices_must_know(factorized: FederationConfig, backbone: Backbone) -> None:
    request = plan(begin(factorized, backbone), range(8), config=factorized).request
    assert (request.mechanism, request.min_separation, request.noise_multiplier) == ("factorized", 2, 3.0)
    assert request.price.sample_rate == 1.0
