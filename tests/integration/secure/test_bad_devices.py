"""Devices that lie under secure aggregation: what they can do to a sum, and to others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message

from client.app import make_app
from server.config import FederationConfig
from server.secure import TOO_LONG, UNOPENED
from shared_model.messages import ARRAY, REPLY
from shared_model.secure_sum import Ring
from shared_model.split import flatten
from tests.integration.secure.conftest import (
    BACKBONE,
    CLIP,
    SIZE,
    Fleet,
    app,
    go,
    number,
    plain,
    replaced,
    summed,
    tolerance,
)


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
