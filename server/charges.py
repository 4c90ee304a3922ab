"""What a round is charged in the server's ledger, and which round may no longer be run."""

from __future__ import annotations

from server.budget import Budget
from server.config import FederationConfig
from server.ledger import Price
from server.state import RoundState
from shared_model.errors import PrivacyError

__all__ = ["check_charge", "price_of"]


def check_charge(state: RoundState, config: FederationConfig) -> None:
    """Refuse a round beyond those that the noise was solved for."""
    if state.noise_multiplier == 0.0:
        return
    if state.charged > config.rounds or (config.factorization and state.extra):
        raise PrivacyError(
            f"the privacy of all {config.rounds} rounds is spent: the ledger knows {state.extra} rounds that were run "
            f"before an older state was put back",
            hint="the backbone of the last finished round is the result of this run",
        )


def price_of(state: RoundState, config: FederationConfig) -> Price:
    """Say what the ledger is to write down for a round."""
    mechanism = Budget(config, state.noise_multiplier).mechanism
    steps = 1 if config.unit == "user" else config.local_steps
    return Price(mechanism, steps, whole_run=config.factorization is not None)
