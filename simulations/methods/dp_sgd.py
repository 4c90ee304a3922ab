"""Example-level DP-SGD on the devices: Abadi et al. 2016, "Deep learning with differential privacy" (CCS).

For a few silos that trust each other with less than their pictures: each device clips the gradient of every
*record*, adds the noise itself at every local step, and sends a difference that is private already; the
server averages. It protects a record, not a person, and needs no random cohorts. The federation's own unit,
noise on the sum and nominal fleet do not apply and are replaced: ``target_epsilon`` and
``noise_multiplier`` then speak of a record, and population and cohort are the devices that there are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.methods.federated import Federated, Options

__all__ = ["METHOD", "DPSGDOptions"]


@dataclass(frozen=True)
class DPSGDOptions(Options):
    """Settings of example-level DP-SGD.

    Parameters
    ----------
    records
        Public number of records of a device; 0: the federation's. With fewer than it says a device
        divides by too many, with more it gives noise less weight; the guarantee is the same.
    batch
        Expected records in a step; 0: all of them, without sampling.
    """

    records: int = 0
    batch: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.records < 0 or self.batch < 0:
            raise ConfigError("records and batch must be 0 or more")
        if self.solver != "adamw":
            raise ConfigError("solver must be adamw: the private optimizer is built on it")


def _examples(federation: FederationConfig, options: DPSGDOptions) -> FederationConfig:
    if federation.unprotected:
        raise ConfigError(
            "this method promises privacy, and the federation is unprotected",
            hint='set target_epsilon or noise_multiplier, or take the method "fedavg"',
        )
    records = options.records or federation.records
    return dataclasses.replace(
        federation,
        unit="example",
        population=federation.simulated_population or federation.population,
        cohort=federation.planned,
        simulated_population=0,
        simulated_cohort=0,
        rescale_noise=False,
        mechanism="sampled",
        min_separation=1,
        adaptive_clip=False,
        count_noise=0.0,
        records=records,
        batch=options.batch or records,
        optimizer="fedavg",
    )


METHOD = Federated(
    name="dp-sgd",
    paper="Abadi et al. 2016, Deep learning with differential privacy",
    options=DPSGDOptions,
    federation=_examples,
)
