"""FedRep: Collins et al. 2021, "Exploiting shared representations for personalized federated learning" (ICML).

The parts are those of FedPer. In each round a device first fits its own last layers to the representation
that it was sent, with that fixed, and then the representation to its own layers, with those fixed
(algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.trainer import Trainer
from server.state import RoundState
from shared_model.errors import ConfigError
from shared_model.split import flatten
from simulations.methods.federated import Federated, Options, user_level
from simulations.methods.fedper import last_layers
from simulations.methods.partial import PartlyOwn
from simulations.methods.trial import Trial

__all__ = ["METHOD", "FedRepOptions"]


@dataclass(frozen=True)
class FedRepOptions(Options):
    """Settings of FedRep.

    Parameters
    ----------
    layers
        How many layers, counted back from the generator's output, are the device's own.
    own_steps
        Local steps on them; 0: as many as on the representation, so that a round takes twice as many
        steps as one of FedAvg.
    """

    layers: int = 2
    own_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1:
            raise ConfigError(f"layers must be at least 1, not {self.layers}")
        if self.own_steps < 0:
            raise ConfigError(f"own_steps must be 0 or more, not {self.own_steps}")


def _parts(trial: Trial, options: FedRepOptions) -> PartlyOwn:
    own = last_layers(trial.start, options.layers)
    steps = options.own_steps or trial.federation.local_steps
    return PartlyOwn("fedrep", own, flatten(trial.start), own_steps=steps, solver=options.solver)


def _trainer(trial: Trial, options: FedRepOptions) -> Trainer:
    return _parts(trial, options)


def _own(trial: Trial, options: FedRepOptions, state: RoundState, device: Path) -> Tensor:
    return _parts(trial, options).backbone_of(trial, state, device)


METHOD = Federated(
    name="fedrep",
    paper="Collins et al. 2021, Exploiting shared representations for personalized federated learning",
    options=FedRepOptions,
    federation=user_level,
    trainer=_trainer,
    own=_own,
)
