"""Rounds without a server: what methods that share nothing, or everything, have in common."""

from __future__ import annotations

from dataclasses import dataclass

from client.local_settings import SOLVERS
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.errors import ConfigError
from shared_model.messages import RoundRequest
from shared_model.weights import architecture_hash

__all__ = ["AloneOptions", "as_request"]


@dataclass(frozen=True)
class AloneOptions:
    """Settings of training without a server.

    Parameters
    ----------
    steps
        Steps of a round; 0: the federation's, on a device (local) or of a whole cohort (central).
    solver
        Optimizer, one of :data:`client.local_settings.SOLVERS`.
    """

    steps: int = 0
    solver: str = "adamw"

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"steps must be 0 or more, not {self.steps}")
        if self.solver not in SOLVERS:
            raise ConfigError(f"solver must be one of {', '.join(SOLVERS)}, not {self.solver!r}")


def as_request(federation: FederationConfig, start: Backbone, *, run: str, round: int, seed: int) -> RoundRequest:
    """Return the settings that a server would send, for training that no server asked for.

    Local training is that of the federation; there is no clip, noise or cohort, since nothing is sent.
    """
    return RoundRequest(
        run=run,
        round=round,
        rounds=federation.rounds,
        model=start.config,
        loss=LossConfig(adversarial=federation.adversarial),
        architecture=architecture_hash(start.config),
        unit="user",
        clip=federation.clip,
        record_clip=federation.record_clip,
        noise_multiplier=0.0,
        cohort=1,
        population=1,
        delta=federation.effective_delta,
        simulated=True,
        local_steps=federation.local_steps,
        batch=federation.batch,
        learning_rate=federation.learning_rate,
        record_rate=1.0,
        upload=federation.upload,
        seed=seed,
        attempt=round,
    )
