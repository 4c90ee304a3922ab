"""Secure aggregation through the real server and the real client app: sums, dropouts, bad devices, crashes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Error, Message
from scipy import stats

from client.app import make_app
from client.data import DeviceConfig, write_device
from client.ledger import Ledger
from client.secure_state import FILE, Memory
from server.config import FederationConfig
from server.rounds import run
from server.secure import TOO_FEW, TOO_LONG, UNOPENED
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import Interrupted
from shared_model.messages import ARRAY, REPLY
from shared_model.secure_sum import Ring, decode
from shared_model.secure_terms import SECURE, STAGES
from shared_model.split import flatten
from simulations.grid import InProcessGrid

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)
BACKBONE = Backbone(TINY)
SIZE = len(flatten(BACKBONE))
CLIP = 0.5
Act = Callable[[Message, Context, str], Message | None]


def update(index: int) -> torch.Tensor:
    """The update of device number ``index`` before the clip, twice as long as allowed."""
    draw = torch.Generator().manual_seed(index)
    vector = torch.randn(SIZE, generator=draw)
    return vector / vector.norm() * 2 * CLIP


app = make_app(lambda backbone, folder, request, *, seed: update(int(folder.name)))


@pytest.fixture
def config() -> FederationConfig:
    """Five simulated devices without noise, one of which may drop out."""
    return FederationConfig(
        rounds=1,
        population=100_000,
        cohort=1_000,
        unprotected=True,
        simulated_population=5,
        simulated_cohort=5,
        rescale_noise=True,
        clip=CLIP,
        min_nodes=5,
        quorum=0.75,
        secure_aggregation=True,
    )


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Devices whose training would need no records: each has an update of its own."""
    made = []
    for index in range(8):
        folder = tmp_path / "devices" / str(index)
        write_device(folder, DeviceConfig(photos=Path("p"), art=Path("a"), max_epsilon=float("inf"), size_px=64))
        made.append(folder)
    return made


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here pulls the plug: half of the time would be spent in fsync."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


class Fleet:
    """A grid whose devices can be made to misbehave; keeps every masked vector."""

    def __init__(self, folders: list[Path], act: Act | None = None) -> None:
        self._act = act or (lambda message, context, stage: None)
        self.masked: list[np.ndarray] = []
        self.grid = InProcessGrid(self._answer, [{"device-dir": str(folder)} for folder in folders])  # type: ignore[arg-type]

    def _answer(self, message: Message, context: Context) -> Message:
        stage = str(message.content.config_records[SECURE]["stage"])
        reply = self._act(message, context, stage) or app(message, context)
        if not reply.has_error() and ARRAY in reply.content:
            self.masked.append(reply.content.array_records[ARRAY][ARRAY].numpy())
        return reply


def number(context: Context) -> int:
    return int(context.node_config["partition-id"])


def go(fleet: Fleet, folder: Path, config: FederationConfig) -> RoundState:
    return run(fleet.grid, StateStore(folder), config=config, start=lambda: BACKBONE)


def summed(state: RoundState, config: FederationConfig) -> torch.Tensor:
    """Undo the division by the planned cohort."""
    return (state.backbone - flatten(BACKBONE)).double() * config.planned


def plain(indices: Any) -> torch.Tensor:
    """Add what honest devices send in the clear."""
    return sum((update(index).double() / 2 for index in indices), torch.zeros(SIZE, dtype=torch.float64))


def tolerance(config: FederationConfig, devices: int) -> float:
    """The stated bound: each device rounds, and shrinks by as much first; float32 of the backbone on top."""
    ring = Ring(size=SIZE, capacity=config.planned, clip=CLIP, share_std=0.0)
    return 2 * devices * ring.rounding + config.planned * float(flatten(BACKBONE).norm()) * 2.0**-23


def test_the_secure_sum_is_the_plain_sum(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    fleet = Fleet(folders[:5])
    state = go(fleet, tmp_path / "run", config)
    assert (state.reports[0].accepted, state.reports[0].reasons) == (5, {})
    assert float((summed(state, config) - plain(range(5))).norm()) <= tolerance(config, 5)
    # Four bytes a number, and keys and shares: a few kilobytes a device.
    assert 5 * 4 * SIZE < state.reports[0].bytes_up < 5 * (4 * SIZE + 4000)
    for folder in folders[:5]:
        (entry,) = Ledger.open(folder / "ledger.json").entries()
        assert (entry.kind, entry.state, entry.bytes_sent) == ("masked update", "committed", 4 * SIZE)
        saved = (folder / FILE).read_text()
        assert '"mask_private": ""' in saved
        assert '"self_seed": ""' in saved
        assert (folder / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("stage", STAGES)
def test_a_device_may_drop_out_of_every_stage(
    stage: str, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        return Message(Error(9, "gone"), reply_to=message) if now == stage and number(context) == 2 else None

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    there = [0, 1, 2, 3, 4] if stage == "open" else [0, 1, 3, 4]
    assert state.reports[0].accepted == len(there)
    assert state.reports[0].reasons == ({} if stage == "open" else {"error 9": 1})
    assert float((summed(state, config) - plain(there)).norm()) <= tolerance(config, 5)


@pytest.mark.parametrize("stage", STAGES)
def test_beyond_the_threshold_the_round_is_skipped_and_stays_charged(
    stage: str, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        return Message(Error(9, "gone"), reply_to=message) if now == stage and number(context) < 3 else None

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    report = state.reports[0]
    assert not report.released
    assert torch.equal(state.backbone, flatten(BACKBONE))
    assert (state.round, state.reserved, report.accepted, report.dropped) == (1, 1, 0, 5)
    assert report.reasons == ({UNOPENED: 5} if stage == "open" else {"error 9": 3, TOO_FEW: 2})
    assert "skipped" in report.line(rounds=1)


def test_the_server_sees_uniform_vectors(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    fleet = Fleet(folders[:5])
    go(fleet, tmp_path / "run", config)
    assert len(fleet.masked) == 5
    for index, words in enumerate(fleet.masked):
        counts = np.bincount(words.view(np.uint8), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-7
        assert stats.kstest(words / 2.0**32, "uniform").pvalue > 1e-7
        correlation = np.corrcoef(words.view(np.int32), update(index).numpy())[0, 1]
        assert abs(correlation) < 6 / SIZE**0.5
    # The positive control: without masks the same tests find the update at once.
    bare = np.rint(update(0).numpy() / 2.0**-30).astype(np.int64).astype(np.uint32)
    assert stats.kstest(bare / 2.0**32, "uniform").pvalue < 1e-9
    assert np.corrcoef(bare.view(np.int32), update(0).numpy())[0, 1] > 0.99


def test_two_devices_together_are_still_hidden(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    fleet = Fleet(folders[:5])
    go(fleet, tmp_path / "run", config)
    total = fleet.masked[0] + fleet.masked[1]
    assert stats.kstest(total / 2.0**32, "uniform").pvalue > 1e-7


@pytest.mark.parametrize("dropped", [0, 2])
def test_the_noise_of_the_sum_is_never_below_what_was_promised(
    dropped: int, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    noisy = replace(
        config,
        unprotected=False,
        noise_multiplier=3_000.0,
        simulated_population=8,
        simulated_cohort=8,
        min_nodes=8,
        accept_loud_noise=True,
    )

    def act(message: Message, context: Context, now: str) -> Message | None:
        return Message(Error(9, "gone"), reply_to=message) if now == "masked" and number(context) < dropped else None

    state = go(Fleet(folders, act), tmp_path / "run", noisy)
    promised = 3_000.0 * CLIP * 8 / 1_000  # rescaled from the nominal cohort
    expected = promised * ((8 - dropped) / noisy.needed) ** 0.5
    error = (summed(state, noisy) - plain(range(dropped, 8))).numpy()
    assert noisy.needed == 6
    low, high = (stats.chi2.ppf(p, SIZE) for p in (1e-6, 1 - 1e-6))
    assert low < float((error**2).sum()) / expected**2 < high
    assert expected >= promised


def test_without_neighbors_in_common_far_devices_are_still_added(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    """Each of eight devices shares secrets with four others only."""
    sparse = replace(config, simulated_population=8, simulated_cohort=8, min_nodes=8, secure_neighbors=4)

    def act(message: Message, context: Context, now: str) -> Message | None:
        if now == "shares":
            assert len(message.content.config_records[SECURE]["holders"]) == 5
        return Message(Error(9, "gone"), reply_to=message) if now == "masked" and number(context) == 3 else None

    state = go(Fleet(folders, act), tmp_path / "run", sparse)
    assert state.reports[0].accepted == 7
    assert float((summed(state, sparse) - plain({*range(8)} - {3})).norm()) <= tolerance(sparse, 8)


def replaced(message: Message, context: Context, array: np.ndarray) -> Message:
    reply = app(message, context)
    reply.content[ARRAY] = ArrayRecord({ARRAY: Array(array)})
    return reply


def test_a_wrongly_masked_vector_costs_the_round_and_not_the_backbone(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        if now == "masked" and number(context) == 1:
            return replaced(message, context, np.random.default_rng(0).integers(0, 2**32, SIZE, np.uint32))
        return None

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    assert torch.equal(state.backbone, flatten(BACKBONE))
    assert state.reports[0].reasons == {TOO_LONG: 5}
    assert not state.reports[0].released


def test_a_lying_device_can_move_the_sum_by_what_all_may_and_no_more(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    """The honest limit of secure aggregation: no norm of a single update can be checked."""

    ring = Ring(size=SIZE, capacity=5, clip=CLIP, share_std=0.0)
    for length, released in ((3 * CLIP, True), (7 * CLIP, False)):

        def act(message: Message, context: Context, now: str, length: float = length) -> Message | None:
            if now != "masked" or number(context) != 1:
                return None
            reply = app(message, context)
            words = reply.content.array_records[ARRAY][ARRAY].numpy().copy()
            words[:1] += np.uint32(round(length / ring.step))  # arrays wrap around silently, numbers do not
            reply.content[ARRAY] = ArrayRecord({ARRAY: Array(words)})
            return reply

        state = go(Fleet(folders[:5], act), tmp_path / f"run{length}", config)
        assert state.reports[0].released is released
        if released:
            assert state.reports[0].accepted == 5
            assert float((summed(state, config) - plain(range(5))).norm()) == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(SIZE - 1, np.uint32), "wrong length"),
        (np.zeros(SIZE, np.float32), "wrong dtype"),
        (np.zeros((SIZE, 1), np.uint32), "wrong length"),
    ],
)
def test_what_is_no_masked_vector_is_dropped(
    array: np.ndarray, reason: str, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        return replaced(message, context, array) if now == "masked" and number(context) == 1 else None

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    assert (state.reports[0].accepted, state.reports[0].reasons) == (4, {reason: 1})
    assert float((summed(state, config) - plain([0, 2, 3, 4])).norm()) <= tolerance(config, 5)


def test_an_update_that_is_not_finite_never_leaves(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    broken = make_app(lambda backbone, folder, request, *, seed: torch.full((SIZE,), torch.nan))

    def act(message: Message, context: Context, now: str) -> Message | None:
        return broken(message, context) if number(context) == 1 else None

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    assert state.reports[0].reasons == {"failed on the device": 1}
    assert float((summed(state, config) - plain([0, 2, 3, 4])).norm()) <= tolerance(config, 5)


@pytest.mark.parametrize("lie", ["garbage", "swapped", "fewer"])
def test_wrong_shares_are_found_out_and_others_used(
    lie: str, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        if now != "open" or number(context) != 0:
            return None
        reply = app(message, context)
        values = reply.content.config_records[REPLY]
        shares = list(values["shares"])  # type: ignore[arg-type]
        if lie == "garbage":
            values["shares"] = [share[:4] + bytes(len(share) - 4) for share in shares]
        elif lie == "swapped":
            values["shares"] = shares[::-1]
        else:
            values["shares"] = shares[:-1]
        return reply

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    assert state.reports[0].accepted == 5
    assert float((summed(state, config) - plain(range(5))).norm()) <= tolerance(config, 5)


@pytest.mark.parametrize(
    ("stage", "changes", "reason"),
    [
        ("keys", {"mask_key": b"no key"}, "bad keys"),
        ("keys", {"extra": 1}, "bad keys"),
        ("keys", {"attempt": "0123456789abcdef"}, "another round"),
        ("shares", {"promise": b"short"}, "bad shares"),
        ("shares", {"sealed": [b"one"]}, "bad shares"),
        ("shares", {"run": "other"}, "another round"),
    ],
)
def test_bad_replies_of_the_first_stages_are_dropped(
    stage: str,
    changes: dict[str, Any],
    reason: str,
    tmp_path: Path,
    config: FederationConfig,
    folders: list[Path],
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        if now != stage or number(context) != 4:
            return None
        reply = app(message, context)
        reply.content.config_records[REPLY].update(changes)
        return reply

    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    assert (state.reports[0].accepted, state.reports[0].reasons) == (4, {reason: 1})
    assert float((summed(state, config) - plain(range(4))).norm()) <= tolerance(config, 5)


def test_sealed_garbage_of_one_device_makes_no_honest_device_drop_out(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    def act(message: Message, context: Context, now: str) -> Message | None:
        if now != "shares" or number(context) != 4:
            return None
        reply = app(message, context)
        values = reply.content.config_records[REPLY]
        values["sealed"] = [b"x" * 100 for _ in list(values["sealed"])]  # type: ignore[arg-type]
        return reply

    # Nobody can take off the bad device's own mask: the round is lost, and no single update is opened.
    state = go(Fleet(folders[:5], act), tmp_path / "run", config)
    assert state.reports[0].reasons == {UNOPENED: 5}
    assert torch.equal(state.backbone, flatten(BACKBONE))


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_in_any_stage_repeats_or_gives_up_the_round_under_its_one_charge(
    stage: str, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    crashed: list[str] = []

    def act(message: Message, context: Context, now: str) -> Message | None:
        if now == stage and number(context) == 3 and not crashed:
            crashed.append(now)
            raise KeyboardInterrupt
        return None

    two = replace(config, rounds=2)
    fleet = Fleet(folders[:5], act)
    with pytest.raises(Interrupted, match="round 1 of 2"):
        go(fleet, tmp_path / "run", two)
    saved = StateStore(tmp_path / "run").load()
    assert saved is not None
    assert (saved.round, saved.reserved) == (0, 1)
    before = len(fleet.masked)
    state = go(fleet, tmp_path / "run", two)
    assert (state.round, state.reserved) == (2, 2)
    # No device ever masks two updates for one round, so no second sum of the same round can exist.
    for folder in folders[:5]:
        sent = [entry.round for entry in Ledger.open(folder / "ledger.json").entries() if entry.kind]
        assert len(sent) == len(set(sent))
    first, second = state.reports
    assert second.released
    if stage in ("keys", "shares"):
        assert (before, first.accepted) == (0, 5)
    else:
        assert not first.released
        assert first.reasons["answered before"] == before == (3 if stage == "masked" else 5)


def test_a_masked_update_is_never_repeated_and_never_opened_twice(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    heard: dict[str, Message] = {}

    def act(message: Message, context: Context, now: str) -> Message | None:
        if number(context) == 0:
            heard[now] = message
        return None

    fleet = Fleet(folders[:5], act)
    go(fleet, tmp_path / "run", config)
    context = fleet.grid._contexts[1001]
    for stage in STAGES:
        reply = app(heard[stage], context)
        assert reply.has_error(), stage
        assert reply.error.reason == "FederationError"


def state_of(folder: Path) -> Any:
    return Memory(folder).load()


@pytest.fixture
def at_stage(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> Iterator[Callable[[str], tuple[Message, Context]]]:
    """Stop a round just before device 0 answers a stage; return the message and its context."""

    def stop(stage: str) -> tuple[Message, Context]:
        found: list[tuple[Message, Context]] = []

        def act(message: Message, context: Context, now: str) -> Message | None:
            if now == stage and number(context) == 0:
                found.append((message, context))
                raise KeyboardInterrupt
            return None

        with pytest.raises(Interrupted):
            go(Fleet(folders[:5], act), tmp_path / "run", config)
        return found[0]

    yield stop


@pytest.mark.parametrize(
    ("stage", "changes", "code"),
    [
        ("shares", {"holders": [0, 1]}, 103),
        ("shares", {"index": 9}, 103),
        ("masked", {"needed": 3}, 103),
        ("masked", {"sum_noise": 0.5}, 103),
        ("masked", {"sources": [1, 2, 3, 9]}, 103),
        ("masked", {"sources": [1, 1, 1, 1]}, 101),
        ("open", {"survivors": [0, 1, 2]}, 101),
        ("open", {"survivors": [1, 2, 3, 4]}, 101),
        ("open", {"attempt": "0123456789abcdef"}, 103),
        ("keys", {"stage": "other"}, 103),
        ("keys", {"needed": 2}, 103),
    ],
)
def test_a_device_does_not_follow_a_server_that_contradicts_itself(
    stage: str, changes: dict[str, Any], code: int, at_stage: Callable[[str], tuple[Message, Context]]
) -> None:
    message, context = at_stage(stage)
    message.content.config_records[SECURE].update(changes)
    reply = app(message, context)
    assert reply.error.code == code


def test_changed_or_doubled_keys_are_refused(at_stage: Callable[[str], tuple[Message, Context]]) -> None:
    message, context = at_stage("shares")
    values = message.content.config_records[SECURE]
    honest = list(values["mask_keys"])  # type: ignore[arg-type]
    for forged in ([honest[1], honest[1], *honest[2:]], [honest[0], honest[1], honest[1], *honest[3:]]):
        values["mask_keys"] = forged
        assert app(message, context).error.reason == "FederationError"
    values["mask_keys"] = honest
    assert not app(message, context).has_error()


def test_the_owner_can_insist_on_it(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    for folder in folders[:5]:
        (folder / "policy.toml").write_text(
            "require_secure_aggregation = true\nsimulation = true\nmin_noise_multiplier = 0.0\n"
        )
    assert go(Fleet(folders[:5]), tmp_path / "a", config).reports[0].accepted == 5
    grid = InProcessGrid(app, [{"device-dir": str(folder)} for folder in folders[:5]])
    in_the_clear = replace(config, secure_aggregation=False)
    state = run(grid, StateStore(tmp_path / "b"), config=in_the_clear, start=lambda: BACKBONE)
    assert state.reports[0].reasons == {"refused by policy": 5}


def test_a_real_device_refuses_a_secure_sum_with_less_noise_than_promised(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    real = replace(
        config,
        simulated_population=0,
        simulated_cohort=0,
        rescale_noise=False,
        unprotected=False,
        noise_multiplier=2.0,
        population=5,
        cohort=5,
        accept_loud_noise=True,
    )

    def act(message: Message, context: Context, now: str) -> Message | None:
        del context.node_config["partition-id"]  # a real device
        if now == "keys":
            message.content.config_records[SECURE]["sum_noise"] = 1.9 * CLIP
        return None

    fleet = Fleet(folders[:5], act)
    state = go(fleet, tmp_path / "run", real)
    assert state.reports[0].reasons == {"refused by policy": 5}
    assert not (folders[0] / "ledger.json").exists()


def test_too_few_devices_are_not_even_asked(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    """A Poisson sample may be small: then the round is skipped, charged, and nobody trains."""
    from server.secure import secure_sum, secure_terms

    assert secure_terms(config, asked=3, std=0.0) is None
    found = secure_sum(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        [1, 2, 3],
        flatten(BACKBONE),
        terms=None,
        neighbors=0,
        limit_s=1.0,
        timing=None,  # type: ignore[arg-type]
    )
    assert (found.total.count, found.reasons) == (0, {TOO_FEW: 3})


def test_decode_is_what_encode_made() -> None:
    ring = Ring(size=4, capacity=3, clip=1.0, share_std=0.0)
    assert decode(np.array([1, 2**32 - 1, 0, 2**31], np.uint32), ring).tolist() == [
        ring.step,
        -ring.step,
        0.0,
        -(2.0**31) * ring.step,
    ]
