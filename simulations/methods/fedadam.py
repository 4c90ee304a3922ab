"""FedAdam: Reddi et al. 2021, "Adaptive federated optimization" (ICLR), algorithm 2.

Devices do as in FedAvg; the server takes Adam's step along the (noisy) average
(:func:`server.aggregation.server_optimizer`), which costs no privacy: it is computed from what was
released.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.methods.federated import Federated, Options, user_level

__all__ = ["METHOD", "FedAdamOptions"]


@dataclass(frozen=True)
class FedAdamOptions(Options):
    """Settings of FedAdam.

    Parameters
    ----------
    server_lr
        Step size of the server, the paper's eta: about how far a number moves in a round. It replaces
        ``server_lr`` of the federation, which for FedAvg is 1.
    """

    server_lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.server_lr) and self.server_lr > 0.0):
            raise ConfigError(f"server_lr must be positive and finite, not {self.server_lr}")


def _adaptive(federation: FederationConfig, options: FedAdamOptions) -> FederationConfig:
    return dataclasses.replace(user_level(federation, options), optimizer="fedadam", server_lr=options.server_lr)


METHOD = Federated(
    name="fedadam",
    paper="Reddi et al. 2021, Adaptive federated optimization",
    options=FedAdamOptions,
    federation=_adaptive,
)
