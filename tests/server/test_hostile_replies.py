"""Each hostile reply through real rounds: dropped, with the reason that the operator reads in log, table and status."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from client.app import pack
from server.config import FederationConfig
from server.reasons import explain
from server.report import to_csv
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.messages import ARRAY, REPLY, SETTINGS, RoundRequest
from shared_model.sparse import kept
from shared_model.split import flatten
from simulations.grid import InProcessGrid

MakeClient = Callable[..., ClientApp]
Change = Callable[[Message, Message, dict], Message]


def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _array(values: Callable[[int], np.ndarray]) -> Change:
    def change(request: Message, reply: Message, memory: dict) -> Message:
        size = request.content.array_records[ARRAY][ARRAY].shape[0]
        reply.content[ARRAY] = ArrayRecord({ARRAY: Array(values(size))})
        return reply

    return change


def _value(**changes: object) -> Change:
    def change(request: Message, reply: Message, memory: dict) -> Message:
        for name, value in changes.items():
            reply.content[REPLY][name] = value
        return reply

    return change


def _poisoned(number: float) -> Callable[[int], np.ndarray]:
    def values(size: int) -> np.ndarray:
        made = np.full(size, 1e-4, np.float16)
        made[size // 2] = number
        return made

    return values


def _swapped(request: Message, reply: Message, memory: dict) -> Message:
    """Several arrays in an order of the sender's own; Flower's clipping pairs by position, its averaging by key."""
    whole = reply.content[ARRAY][ARRAY].numpy()
    half = len(whole) // 2
    reply.content[ARRAY] = ArrayRecord({"second": Array(whole[half:]), "first": Array(whole[:half])})
    return reply


def _replayed(request: Message, reply: Message, memory: dict) -> Message:
    """What was sent in the first round, sent again as if it were new."""
    first = memory.setdefault("first", reply.content)
    renewed = ConfigRecord({**first[REPLY], "round": reply.content[REPLY]["round"]})
    return Message(RecordDict({ARRAY: first[ARRAY], REPLY: renewed}), reply_to=request)


def _recorded(request: Message, reply: Message, memory: dict) -> Message:
    return Message(memory.setdefault("first", reply.content), reply_to=request)


def _flipped(request: Message, reply: Message, memory: dict) -> Message:
    values = reply.content[ARRAY][ARRAY].numpy()
    reply.content[ARRAY] = ArrayRecord({ARRAY: Array((-values).astype(values.dtype))})
    return reply


HOSTILE: dict[str, tuple[Change, str, str]] = {
    "NaN": (_array(_poisoned(math.nan)), "float16", "not finite"),
    "Inf": (_array(_poisoned(math.inf)), "float16", "not finite"),
    "NaN as the scale": (_value(scale=math.nan), "int8", "bad scale"),
    "wrong shape": (_array(lambda size: np.zeros((1, size), np.int8)), "int8", "wrong length"),
    "one number that would be broadcast": (_array(lambda size: np.ones(1, np.int8)), "int8", "wrong length"),
    "wrong type": (_array(lambda size: np.zeros(size, np.float32)), "int8", "wrong dtype"),
    "key order swapped": (_swapped, "int8", "wrong keys"),
    "oversize": (_array(lambda size: np.zeros(40 * size, np.int8)), "int8", "wrong length"),
    "replayed as it was": (_recorded, "int8", "another round"),
    "replayed with a new round": (_replayed, "int8", "its ledger went back"),
    "of a stale round": (_value(round=77), "int8", "another round"),
    "of another run": (_value(run="0123456789ab"), "int8", "another run"),
    "huge norm": (_value(scale=0.4), "int8", "norm above the clip"),
    "a scale above the clip": (_value(scale=1e30), "int8", "bad scale"),
    "a weight of its own": (_value(weight=1e6), "int8", "wrong keys"),
}


def two_rounds(folder: Path, config: FederationConfig, backbone: Backbone, grid: InProcessGrid) -> RoundState:
    return run(grid, StateStore(folder), config=config, start=lambda: backbone, noise=no_noise)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_reply_is_dropped_and_the_operator_reads_why(
    name: str, tmp_path: Path, config: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    change, upload, reason = HOSTILE[name]
    memory: dict = {}

    def act(message: Message, index: int) -> Message:
        sound = honest(message, index)
        if upload == "float16":
            size = message.content.array_records[ARRAY][ARRAY].shape[0]
            sound.content[ARRAY] = ArrayRecord({ARRAY: Array(np.full(size, 1e-3, np.float16))})
            sound.content[REPLY]["scale"] = 0.1
        return change(message, sound, memory) if index == 2 else sound

    settings = replace(config, upload=upload)
    state = two_rounds(tmp_path, settings, backbone, InProcessGrid(make_client(act), [{}] * 4))
    last = state.reports[-1]
    assert last.released and (last.accepted, dict(last.reasons)) == (3, {reason: 1})
    assert f"dropped 1 {reason}" in last.line(rounds=2)
    assert f"{reason}: 1" in to_csv(state.reports)
    # What is left is what the three others sent: as if the fourth had stayed silent.
    assert torch.isfinite(state.backbone).all()
    assert float((state.backbone - flatten(backbone)).double().norm()) <= 2 * settings.clip * (1 + 1e-5)


def test_hostile_positions_are_dropped_and_the_operator_reads_why(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    """A round that asks for a part of the numbers; one device says nothing of where its own stand."""

    def act(message: Message, index: int) -> Message:
        sound = honest(message, index)
        request = RoundRequest.from_values(dict(message.content.config_records[SETTINGS]))
        values, scale = pack(torch.linspace(-1, 1, sound.content[ARRAY][ARRAY].shape[0]), request)
        sound.content[REPLY]["scale"] = scale
        sound.content[ARRAY] = ArrayRecord({ARRAY: Array(values if index != 2 else np.full_like(values, 255))})
        return sound

    settings = replace(config, top_k=0.1)
    state = two_rounds(tmp_path, settings, backbone, InProcessGrid(make_client(act), [{}] * 4))
    last = state.reports[-1]
    assert last.released and (last.accepted, dict(last.reasons)) == (3, {"wrong positions": 1})
    assert "dropped 1 wrong positions" in last.line(rounds=2) and explain("wrong positions")
    moved = state.backbone - flatten(backbone)
    size = len(moved)
    assert int((moved != 0).sum()) <= kept(size, share=0.1), "honest devices sent the same places"
    assert last.bytes_up < 4 * 0.2 * size


class Twice(InProcessGrid):
    """Delivers every answer twice."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        for message in super().pull_messages(message_ids):
            yield message
            yield message


def test_duplicates_count_once(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    twice = two_rounds(tmp_path / "a", config, backbone, Twice(fake_client, [{}] * 4))
    once = two_rounds(tmp_path / "b", config, backbone, InProcessGrid(fake_client, [{}] * 4))
    assert torch.equal(twice.backbone, once.backbone)
    assert [report.reasons for report in twice.reports] == [{"duplicate": 4}] * 2


def test_a_flipped_sign_looks_like_an_update_and_moves_the_backbone_by_two_clips_at_most(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    """Nothing in it is wrong, so nobody can drop it; the clip bounds it: 2 clip / planned instead of an honest one."""

    def act(message: Message, index: int) -> Message:
        sound = honest(message, index)
        return _flipped(message, sound, {}) if index == 2 else sound

    one = replace(config, rounds=1)
    flipped = two_rounds(tmp_path / "a", one, backbone, InProcessGrid(make_client(act), [{}] * 4))
    sound = two_rounds(tmp_path / "b", one, backbone, InProcessGrid(make_client(honest), [{}] * 4))
    assert flipped.reports[0].reasons == {} and flipped.reports[0].accepted == 4
    moved = float((flipped.backbone - sound.backbone).double().norm())
    assert moved == pytest.approx(2 * config.clip / 4, rel=1e-2)  # tight: the honest update was as long as the clip
