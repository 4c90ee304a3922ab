"""The engine of a simulation: runs the real server over the real client app, here or elsewhere.

One key, ``kind``, says where devices run; what they compute is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.clientapp import ClientApp

from server.config import FederationConfig
from server.report import RoundReport
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError
from simulations.grid import InProcessGrid

__all__ = ["KINDS", "EngineConfig", "OnRound", "federate"]

#: Where devices can run.
KINDS = ("in-process",)

#: Called with state and report after every round that was saved.
OnRound = Callable[[RoundState, RoundReport], None]


@dataclass(frozen=True)
class EngineConfig:
    """Where simulated devices run.

    Parameters
    ----------
    kind
        ``"in-process"``: in this process, one after the other.
    """

    kind: str = "in-process"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"engine kind must be one of {', '.join(KINDS)}, not {self.kind!r}")


def federate(
    client_app: ClientApp,
    devices: Sequence[Path],
    *,
    folder: Path,
    config: FederationConfig,
    start: Callable[[], Backbone],
    engine: EngineConfig | None = None,
    on_round: OnRound = lambda state, report: None,
) -> tuple[RoundState, tuple[str, ...]]:
    """Run all rounds of a federation, or those that are left, over device folders on this computer.

    Parameters
    ----------
    client_app
        What runs on each device; :data:`client.app.app` or one with another local trainer.
    devices
        Device folders, in order.
    folder
        Where the server's state lives; a state found there is resumed.
    config
        The federation.
    start
        Gives the first backbone of a new run.
    engine
        Where devices run.
    on_round
        Called after each round is saved.

    Returns
    -------
    state
        After the last round.
    failures
        What went wrong on devices, first causes, one line each.
    """
    del engine  # the only kind runs here
    grid = InProcessGrid(client_app, [{"device-dir": str(home.resolve())} for home in devices])
    state = run(grid, StateStore(folder), config=config, start=start, on_round=on_round)
    return state, tuple(grid.failures)
