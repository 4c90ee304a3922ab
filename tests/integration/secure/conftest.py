"""A fleet of five to eight devices under secure aggregation, each with an update of its own; they can misbehave."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message

from client.app import make_app
from client.data import DeviceConfig, write_device
from server.config import FederationConfig
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.messages import ARRAY
from shared_model.secure_sum import Ring
from shared_model.secure_terms import SECURE
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
        self.grid = InProcessGrid(self.answer, [{"device-dir": str(folder)} for folder in folders])  # type: ignore[arg-type]

    def answer(self, message: Message, context: Context) -> Message:
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


def replaced(message: Message, context: Context, array: np.ndarray) -> Message:
    reply = app(message, context)
    reply.content[ARRAY] = ArrayRecord({ARRAY: Array(array)})
    return reply
