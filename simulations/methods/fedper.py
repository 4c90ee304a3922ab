"""FedPer: Arivazhagan et al. 2019, "Federated learning with personalization layers" (arXiv:1912.00818).

The generator's last layers are each device's own; everything before them, style encoder and critic
included, is shared. Both are trained together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.trainer import Trainer
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError
from shared_model.split import flatten, shared_parameters
from simulations.methods.federated import Federated, Options, user_level
from simulations.methods.partial import PartlyOwn
from simulations.methods.trial import Trial

__all__ = ["METHOD", "FedPerOptions", "last_layers"]


@dataclass(frozen=True)
class FedPerOptions(Options):
    """Settings of FedPer.

    Parameters
    ----------
    layers
        How many layers, counted back from the generator's output, are the device's own; the paper's K_P.
    """

    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1:
            raise ConfigError(f"layers must be at least 1, not {self.layers}")


def last_layers(backbone: Backbone, count: int) -> frozenset[str]:
    """Return the names of the parameters of the generator's last ``count`` layers.

    Raises
    ------
    ConfigError
        If it has no more layers than that.
    """
    blocks = [f"{half}.{index}" for index in range(backbone.config.blocks) for half in ("first", "second")]
    layers = ["enter", *blocks, "narrow", "middle", "fine", "leave"]
    if count >= len(layers):
        raise ConfigError(f"layers must be below {len(layers)}, not {count}: the generator has no more")
    chosen = tuple(f"generator.{layer}." for layer in layers[-count:])
    return frozenset(name for name in shared_parameters(backbone) if name.startswith(chosen))


def _parts(trial: Trial, options: FedPerOptions) -> PartlyOwn:
    own = last_layers(trial.start, options.layers)
    return PartlyOwn("fedper", own, flatten(trial.start), solver=options.solver)


def _trainer(trial: Trial, options: FedPerOptions) -> Trainer:
    return _parts(trial, options)


def _own(trial: Trial, options: FedPerOptions, state: RoundState, device: Path) -> Tensor:
    return _parts(trial, options).backbone_of(trial, state, device)


METHOD = Federated(
    name="fedper",
    paper="Arivazhagan et al. 2019, Federated learning with personalization layers",
    options=FedPerOptions,
    federation=user_level,
    trainer=_trainer,
    own=_own,
)
