"""FedProx: Li et al. 2020, "Federated optimization in heterogeneous networks" (MLSys), algorithm 2.

A device minimises its loss plus ``mu / 2`` times the squared distance to the backbone that it was sent, so
that devices with few or odd pictures do not drift away. The paper allows any local solver; ours takes the
second term by its proximal operator (:mod:`simulations.methods.proximal`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.data import load_records
from client.private_training import train_user_level
from client.trainer import Trainer
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError
from shared_model.messages import RoundRequest
from simulations.methods.federated import Federated, Options, user_level
from simulations.methods.plain import settings_of
from simulations.methods.proximal import drawn_to
from simulations.methods.trial import Trial

__all__ = ["METHOD", "FedProxOptions", "Proximal"]


@dataclass(frozen=True)
class FedProxOptions(Options):
    """Settings of FedProx.

    Parameters
    ----------
    mu
        How strongly a device is drawn back, 0 or more; 0 is FedAvg to the bit. A step forgets
        ``mu * learning_rate / (1 + mu * learning_rate)`` of the way, so at a learning rate of 1e-3
        values from 1 to 100 make a difference.
    """

    mu: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.mu) and self.mu >= 0.0):
            raise ConfigError(f"mu must be 0 or more and finite, not {self.mu}")


@dataclass(frozen=True)
class Proximal:
    """Local training that stays near the backbone that was sent; see :class:`client.trainer.Trainer`."""

    mu: float
    solver: str = "adamw"

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train on the device's records."""
        settings, near = settings_of(request, self.solver), drawn_to(backbone, self.mu)
        return train_user_level(backbone, load_records(folder), settings=settings, seed=seed, after_step=near)


def _trainer(trial: Trial, options: FedProxOptions) -> Trainer:
    return Proximal(options.mu, options.solver)


METHOD = Federated(
    name="fedprox",
    paper="Li et al. 2020, Federated optimization in heterogeneous networks",
    options=FedProxOptions,
    federation=user_level,
    trainer=_trainer,
)
