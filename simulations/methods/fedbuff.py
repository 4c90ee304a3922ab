"""FedBuff: Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation" (AISTATS).

Devices train at any time and answer when they are done; as soon as the buffer holds a cohort of updates they
are released as one, late ones with the weight ``1 / sqrt(1 + staleness)``. That is the server's
``mode = "buffered"``; a device trains as in FedAvg. There are no random cohorts, so under user-level noise
the method takes correlated noise, as DP-FTRL does.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.methods.federated import Federated, Options, user_level

__all__ = ["METHOD", "FedBuffOptions"]


@dataclass(frozen=True)
class FedBuffOptions(Options):
    """Settings of FedBuff.

    Parameters
    ----------
    max_staleness
        An update that is more releases late is dropped.
    concurrency
        Devices that train at the same time; 0: the cohort, which fills one buffer.
    min_separation
        Under noise: releases from one participation of a device to its next, at least; 0: as many as
        there are devices for.
    """

    max_staleness: int = 4
    concurrency: int = 0
    min_separation: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_staleness", "concurrency", "min_separation"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)}")


def _buffered(federation: FederationConfig, options: FedBuffOptions) -> FederationConfig:
    changes: dict[str, Any] = {
        "mode": "buffered",
        "max_staleness": options.max_staleness,
        "concurrency": options.concurrency,
        "optimizer": "fedavg",
    }
    if not federation.unprotected:
        there = (federation.simulated_population or federation.population) - (options.concurrency or federation.planned)
        most = max(1, there // federation.planned)
        changes |= {"mechanism": "factorized", "min_separation": options.min_separation or most, "adaptive_clip": False}
    return dataclasses.replace(user_level(federation, options), **changes)


METHOD = Federated(
    name="fedbuff",
    paper="Nguyen et al. 2022, Federated learning with buffered asynchronous aggregation",
    options=FedBuffOptions,
    federation=_buffered,
)
