"""FedBN-like: after Li et al. 2021, "FedBN: federated learning on non-IID features via local batch normalization".

FedBN keeps batch normalization, scales and shifts of each channel with their statistics, on the device and
shares the rest. Our networks have no batch normalization, and no normalization at all: it would break
per-example privacy. What scales and shifts their channels are the modulation numbers, which the style
encoder's last layer reads off a painting. So that layer is each device's own here, and the rest is shared:
the same idea at the place that our network has for it, NOT the paper's method.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from client.trainer import Trainer
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.split import flatten, shared_parameters
from simulations.methods.federated import Federated, Options, user_level
from simulations.methods.partial import PartlyOwn
from simulations.methods.trial import Trial

__all__ = ["METHOD", "modulation"]


def modulation(backbone: Backbone) -> frozenset[str]:
    """Return the names of the parameters that scale and shift channels."""
    return frozenset(name for name in shared_parameters(backbone) if name.startswith("style_encoder.modulation."))


def _parts(trial: Trial, options: Options) -> PartlyOwn:
    return PartlyOwn("fedbn", modulation(trial.start), flatten(trial.start), solver=options.solver)


def _trainer(trial: Trial, options: Options) -> Trainer:
    return _parts(trial, options)


def _own(trial: Trial, options: Options, state: RoundState, device: Path) -> Tensor:
    return _parts(trial, options).backbone_of(trial, state, device)


METHOD = Federated(
    name="fedbn",
    paper="after Li et al. 2021, FedBN: federated learning on non-IID features via local batch normalization",
    options=Options,
    federation=user_level,
    trainer=_trainer,
    own=_own,
)
