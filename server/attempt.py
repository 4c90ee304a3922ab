"""What every kind of round begins and ends with: charged on the disk before anything is sent, saved after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import RecordDict
from flwr.serverapp import Grid

from server.aggregation import Noise
from server.charges import check_charge, price_of
from server.cohort import remember
from server.config import FederationConfig
from server.ledger import Account, ServerLedger
from server.state import RoundState, StateStore
from server.steps import Plan, plan
from server.transport import Timing, wait_for_nodes
from shared_model.messages import ARRAY
from shared_model.noise import Entropy

__all__ = ["Tools", "charge", "finish", "payload", "present", "reported", "reserve"]


@dataclass(frozen=True)
class Tools:
    """What a running federation works with.

    Parameters
    ----------
    grid
        Carries the messages.
    store, ledger
        Where the state and the charges live.
    config
        The federation.
    timing
        Clock and pauses.
    noise, entropy
        Where fresh noise, and the keys of correlated noise, come from.
    """

    grid: Grid
    store: StateStore
    ledger: ServerLedger
    config: FederationConfig
    timing: Timing
    noise: Noise
    entropy: Entropy


def present(tools: Tools) -> tuple[int, ...]:
    """Wait for enough devices and return all that are connected."""
    enough = max(tools.config.min_nodes, tools.config.simulated_population)
    return wait_for_nodes(tools.grid, enough, limit_s=tools.config.wait_s, timing=tools.timing)


def reserve(tools: Tools, state: RoundState, nodes: tuple[int, ...]) -> tuple[RoundState, Plan]:
    """Begin an attempt at the next round: reserve its privacy and plan it; :func:`charge` comes next.

    Raises
    ------
    PrivacyError
        If the privacy of all rounds is spent.
    """
    state = state.reserve()
    check_charge(state, tools.config)
    return state, plan(state, nodes, config=tools.config)


def charge(tools: Tools, state: RoundState, asked: Iterable[int]) -> tuple[RoundState, Account]:
    """Save a reserved round and whom it asks, then charge it in the ledger; nothing is sent before this returns."""
    number, config = state.round + 1, tools.config
    state = dataclasses.replace(state, asked=remember(state.asked, tuple(asked), round=number, config=config))
    tools.store.save(state)
    return state, tools.ledger.charge(state, price=price_of(state, config))


def finish(tools: Tools, state: RoundState, replies: Iterable[tuple[int, str, int]]) -> RoundState:
    """Save a finished round, then close its charge with what the devices' ledgers said."""
    tools.store.save(state)
    tools.ledger.finish(state, replies)
    return state


def reported(state: RoundState, **changes: object) -> RoundState:
    """Return the state with more in the report of its last round."""
    report = dataclasses.replace(state.reports[-1], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(state, reports=(*state.reports[:-1], report))


def payload(content: RecordDict) -> int:
    """Return the bytes of a request's backbone."""
    return len(content.array_records[ARRAY][ARRAY].data)
