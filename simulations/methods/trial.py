"""What a method of federated learning is given, and what it must give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from server.config import FederationConfig
from server.report import RoundReport
from shared_model.backbone import Backbone
from simulations.engine import EngineConfig

__all__ = ["Method", "Moment", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One method at work on one population.

    Parameters
    ----------
    folder
        The method's own folder: everything it keeps between rounds is here, so that a killed trial
        goes on. The server's state is in ``folder / "federation"``.
    devices
        Device folders of this trial alone, in order, with records and fresh ledgers.
    federation
        Rounds, clip, noise, local training; a method may replace what its paper replaces.
    start
        The backbone that training starts from.
    options
        The method's own settings, checked by the method (such as ``mu`` of FedProx).
    engine
        Where devices run.
    seed
        Of public draws.
    """

    folder: Path
    devices: tuple[Path, ...]
    federation: FederationConfig
    start: Backbone
    options: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    engine: EngineConfig = field(default_factory=EngineConfig)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known after a round.

    Parameters
    ----------
    round
        From 1.
    shared
        The shared backbone after it; the start where a method shares nothing.
    report
        The server's report; ``None`` where no server took part.
    """

    round: int
    shared: Backbone
    report: RoundReport | None


class Method(Protocol):
    """A method: trains a trial to its end, then says with which network each device paints."""

    @property
    def name(self) -> str:
        """As written in an experiment, such as ``"fedprox"``."""

    @property
    def paper(self) -> str:
        """Authors, year and title."""

    def check(self, options: Mapping[str, object], federation: FederationConfig) -> FederationConfig:
        """Return the federation that would run, with what the method replaces in it.

        Raises
        ------
        ConfigError
            For unknown options (the nearest right one is named), bad ones, or a federation that the
            method cannot use.
        """

    def train(self, trial: Trial, *, on_round: Callable[[Moment], None]) -> None:
        """Run all rounds, or those that are left of a trial that was killed.

        ``on_round`` is called after each round is saved; what it raises ends the training there.
        """

    def backbone_of(self, trial: Trial, device: int) -> Backbone:
        """Return the network with which device number ``device`` paints after the rounds so far."""
