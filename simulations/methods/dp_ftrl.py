"""DP-FTRL: Kairouz et al. 2021, "Practical and private (deep) learning without sampling or shuffling" (ICML).

The server's noise is correlated over the rounds, so that most of it cancels in the backbone, and no cohort
has to be a random sample: a device only has to stay away for some rounds after it took part. Ours is the
matrix factorization with the square root of the prefix-sum matrix (Fichtenberger et al. 2023; multiple
participations with a least separation after Choquette-Choo et al. 2023): the server's
``mechanism = "factorized"``, :mod:`shared_model.factorization`. A device trains as in FedAvg.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.methods.dp_fedavg import protected
from simulations.methods.federated import Federated, Options

__all__ = ["METHOD", "DPFTRLOptions"]


@dataclass(frozen=True)
class DPFTRLOptions(Options):
    """Settings of DP-FTRL.

    Parameters
    ----------
    min_separation
        Rounds from one participation of a device to its next, at least; 0: as many as there are
        devices for, at most all rounds.
    """

    min_separation: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_separation < 0:
            raise ConfigError(f"min_separation must be 0 or more, not {self.min_separation}")


def _correlated(federation: FederationConfig, options: DPFTRLOptions) -> FederationConfig:
    there = federation.simulated_population or federation.population
    most = max(1, min(federation.rounds, there // federation.planned))
    changed = dataclasses.replace(
        federation,
        mechanism="factorized",
        min_separation=options.min_separation or most,
        adaptive_clip=False,
        count_noise=0.0,
        optimizer="fedavg",
    )
    return protected(changed, options)


METHOD = Federated(
    name="dp-ftrl",
    paper="Kairouz et al. 2021, Practical and private (deep) learning without sampling or shuffling",
    options=DPFTRLOptions,
    federation=_correlated,
)
