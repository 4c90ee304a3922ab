"""Secure aggregation, the real server and the real client app: the sum, its noise, dropouts, what is seen."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Error, Message
from scipy import stats

from client.ledger import Ledger
from client.secure_state import FILE
from server.config import FederationConfig
from server.secure import TOO_FEW, UNOPENED
from shared_model.secure_sum import Ring, decode
from shared_model.secure_terms import SECURE, STAGES
from shared_model.split import flatten
from simulations.engine import federate
from tests.integration.secure.conftest import (
    BACKBONE,
    CLIP,
    SIZE,
    Fleet,
    go,
    number,
    plain,
    summed,
    tolerance,
    update,
)


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


def test_simulated_devices_repeat_a_sum_to_the_bit_under_other_masks(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    outcomes, masked = [], []
    for name in ("first", "second"):
        homes = [shutil.copytree(folder, tmp_path / name / folder.name) for folder in folders[:5]]
        fleet = Fleet(homes)
        state, _ = federate(fleet.answer, homes, folder=tmp_path / f"{name} run", config=config, start=lambda: BACKBONE)
        outcomes.append(state.backbone)
        masked.append(fleet.masked)
    assert torch.equal(*outcomes) and not torch.equal(outcomes[0], flatten(BACKBONE))
    assert all(np.mean(one == other) < 0.01 for one, other in zip(*masked, strict=True))


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


def test_decode_is_what_encode_made() -> None:
    ring = Ring(size=4, capacity=3, clip=1.0, share_std=0.0)
    assert decode(np.array([1, 2**32 - 1, 0, 2**31], np.uint32), ring).tolist() == [
        ring.step,
        -ring.step,
        0.0,
        -(2.0**31) * ring.step,
    ]
