"""Ditto: Li et al. 2021, "Ditto: fair and robust federated learning through personalization" (ICML), algorithm 1.

In each round a device does two things from the backbone that it was sent: it trains a copy, which is
uploaded as in FedAvg, and it goes on training a model of its own, drawn towards the backbone with strength
``lam``. It paints with its own. What it keeps costs no privacy, since it never leaves.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.data import load_records
from client.private_training import train_user_level
from client.trainer import Trainer
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError
from shared_model.messages import RoundRequest
from shared_model.split import flatten
from simulations.methods.federated import Federated, Options, user_level
from simulations.methods.memory import Memory
from simulations.methods.plain import settings_of
from simulations.methods.proximal import drawn_to
from simulations.methods.trial import Trial
from simulations.methods.vectors import with_vector

__all__ = ["METHOD", "DittoOptions", "WithOwnModel"]


@dataclass(frozen=True)
class DittoOptions(Options):
    """Settings of Ditto.

    Parameters
    ----------
    lam
        The paper's lambda, 0 or more: how strongly a device's own model is drawn to the shared one. 0:
        it learns alone; the larger, the closer to FedAvg. As with ``mu`` of FedProx, a step closes
        ``lam * learning_rate / (1 + lam * learning_rate)`` of the distance.
    own_steps
        Local steps of the device's own model in a round; 0: as many as for the shared one.
    """

    lam: float = 10.0
    own_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.lam) and self.lam >= 0.0):
            raise ConfigError(f"lam must be 0 or more and finite, not {self.lam}")
        if self.own_steps < 0:
            raise ConfigError(f"own_steps must be 0 or more, not {self.own_steps}")


@dataclass(frozen=True, eq=False)
class WithOwnModel:
    """Trains the shared model for the others and one's own beside it; see :class:`client.trainer.Trainer`.

    Parameters
    ----------
    lam, own_steps, solver
        See :class:`DittoOptions`.
    first
        (P,) float32: where a device's own model starts.
    """

    lam: float
    first: Tensor
    own_steps: int = 0
    solver: str = "adamw"

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train both; return what the shared one moved."""
        records, settings = load_records(folder), settings_of(request, self.solver)
        memory = Memory(folder, "ditto")
        kept = memory.recall(request.run, before=request.round)
        own = self.first if kept is None else kept["own"]
        few = dataclasses.replace(settings, steps=self.own_steps or settings.steps)
        near = drawn_to(backbone, self.lam)
        moved = train_user_level(with_vector(backbone, own), records, settings=few, seed=seed, after_step=near)
        memory.keep(request.run, request.round, {"own": own + moved}, attempt=request.attempt)
        return train_user_level(backbone, records, settings=settings, seed=seed)


def _trainer(trial: Trial, options: DittoOptions) -> Trainer:
    return WithOwnModel(options.lam, flatten(trial.start), options.own_steps, options.solver)


def _own(trial: Trial, options: DittoOptions, state: RoundState, device: Path) -> Tensor:
    kept = Memory(device, "ditto").recall(state.run, before=state.round + 1)
    return state.backbone if kept is None else kept["own"]


METHOD = Federated(
    name="ditto",
    paper="Li et al. 2021, Ditto: fair and robust federated learning through personalization",
    options=DittoOptions,
    federation=user_level,
    trainer=_trainer,
    own=_own,
)
