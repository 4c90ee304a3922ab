"""DP-FedAvg: McMahan et al. 2018, "Learning differentially private recurrent language models" (ICLR).

FedAvg with a promise to every *person*: cohorts are random samples, each update is clipped as a whole, the
server adds noise to the sum (algorithm 1, with equal weights and the planned cohort as the divisor). It is
what the server does by default; this method refuses a federation that would leave any of it out.
"""

from __future__ import annotations

import dataclasses

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.methods.federated import Federated, Options, user_level

__all__ = ["METHOD", "protected"]


def protected(federation: FederationConfig, options: Options) -> FederationConfig:
    """Return a federation as it is, refusing one without noise, or with another unit than the user.

    Raises
    ------
    ConfigError
        If it protects nobody, or not users.
    """
    if federation.unprotected:
        raise ConfigError(
            "this method promises privacy, and the federation is unprotected",
            hint='set target_epsilon or noise_multiplier, or take the method "fedavg"',
        )
    return user_level(federation, options)


def _sampled(federation: FederationConfig, options: Options) -> FederationConfig:
    changed = dataclasses.replace(federation, mechanism="sampled", min_separation=1, optimizer="fedavg")
    return protected(changed, options)


METHOD = Federated(
    name="dp-fedavg",
    paper="McMahan et al. 2018, Learning differentially private recurrent language models",
    options=Options,
    federation=_sampled,
)
