"""FedAvg: McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data".

Every device of a cohort trains the shared backbone on its records; the server adds the average of the
differences, each device weighing the same. Clip and noise are those of the federation: with noise this is
DP-FedAvg, which :mod:`simulations.methods.dp_fedavg` insists on.
"""

from __future__ import annotations

import dataclasses

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.methods.federated import Federated, Options

__all__ = ["METHOD", "PAPER"]

PAPER = "McMahan et al. 2017, Communication-efficient learning of deep networks from decentralized data"


def _averaging(federation: FederationConfig, options: Options) -> FederationConfig:
    if federation.unit != "user" and options.solver != "adamw":
        raise ConfigError("solver is for user-level training", hint='leave it out, or set unit = "user"')
    return dataclasses.replace(federation, optimizer="fedavg")


METHOD = Federated(name="fedavg", paper=PAPER, options=Options, federation=_averaging)
