"""Rounds without a server: what methods that share nothing, or everything, have in common."""

from __future__ import annotations

from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.messages import RoundRequest
from shared_model.weights import architecture_hash

__all__ = ["as_request"]


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
