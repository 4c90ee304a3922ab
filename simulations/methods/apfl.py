"""APFL: Deng, Kamani, Mahdavi 2020, "Adaptive personalized federated learning" (arXiv:2003.13461).

A device paints with a mixture ``alpha * own + (1 - alpha) * shared``. In each round it trains the shared
backbone as in FedAvg, and its own model so that the *mixture* fits its records (algorithm 1, with a fixed
``alpha``). The paper takes both steps in turn; here the shared steps come first, then those of the own model
beside the shared one that the device has arrived at.

The gradient of the mixture's loss with respect to the own model is ``alpha`` times that with respect to the
mixture. An own step of AdamW, which does not see the scale of gradients, therefore moves the mixture by
``alpha`` times the step size, one of SGD by its square: that is how the mixture is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
from simulations.methods.trial import Trial
from simulations.methods.vectors import with_vector

__all__ = ["METHOD", "APFLOptions", "Mixture"]


@dataclass(frozen=True)
class APFLOptions(Options):
    """Settings of APFL.

    Parameters
    ----------
    alpha
        Share of the device's own model in what it paints with, 0 to 1. 0: the shared backbone alone;
        1: its own alone, which then learns nothing from the others.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(f"alpha must be from 0 to 1, not {self.alpha}")


@dataclass(frozen=True, eq=False)
class Mixture:
    """Trains the shared model, then the own part of the mixture; see :class:`client.trainer.Trainer`.

    Parameters
    ----------
    alpha, solver
        See :class:`APFLOptions`.
    first
        (P,) float32: where a device's own model starts.
    """

    alpha: float
    first: Tensor
    solver: str = "adamw"

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train both; return what the shared one moved."""
        records, settings = load_records(folder), settings_of(request, self.solver)
        shared = train_user_level(backbone, records, settings=settings, seed=seed)
        memory = Memory(folder, "apfl")
        own = self._own(memory.recall(request.run, before=request.round))
        if self.alpha > 0.0:
            factor = self.alpha if self.solver == "adamw" else self.alpha**2
            slower = dataclasses.replace(settings, lr=settings.lr * factor, critic_lr=settings.critic_lr * factor)
            mixed = self.mix(own, flatten(backbone) + shared)
            moved = train_user_level(with_vector(backbone, mixed), records, settings=slower, seed=seed)
            own = own + moved / self.alpha
        memory.keep(request.run, request.round, {"own": own}, attempt=request.attempt)
        return shared

    def mix(self, own: Tensor, shared: Tensor) -> Tensor:
        """Return the mixture of two models, (P,) each; exactly one of them at either end."""
        return shared.lerp(own, self.alpha)

    def backbone_of(self, state: RoundState, device: Path) -> Tensor:
        """Return what a device paints with after a state of the server, (P,)."""
        return self.mix(self._own(Memory(device, "apfl").recall(state.run, before=state.round + 1)), state.backbone)

    def _own(self, kept: Mapping[str, Tensor] | None) -> Tensor:
        return self.first if kept is None else kept["own"]


def _mixture(trial: Trial, options: APFLOptions) -> Mixture:
    return Mixture(options.alpha, flatten(trial.start), options.solver)


def _trainer(trial: Trial, options: APFLOptions) -> Trainer:
    return _mixture(trial, options)


def _own(trial: Trial, options: APFLOptions, state: RoundState, device: Path) -> Tensor:
    return _mixture(trial, options).backbone_of(state, device)


METHOD = Federated(
    name="apfl",
    paper="Deng et al. 2020, Adaptive personalized federated learning",
    options=APFLOptions,
    federation=user_level,
    trainer=_trainer,
    own=_own,
)
