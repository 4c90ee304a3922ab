"""What all federated methods have in common: the real server, the real client app, another trainer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from client.app import make_app
from client.local_settings import SOLVERS
from client.trainer import Trainer, local_training
from server.config import FederationConfig
from server.report import RoundReport
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.config import parse
from shared_model.errors import ConfigError, FederationError
from shared_model.split import flatten
from simulations.engine import federate
from simulations.methods.compression import TopK
from simulations.methods.plain import Plain
from simulations.methods.trial import Moment, Trial
from simulations.methods.vectors import with_vector

__all__ = ["Federated", "Options", "plain", "user_level"]


@dataclass(frozen=True)
class Options:
    """Settings that every federated method has; each adds its own.

    Parameters
    ----------
    top_k
        Share of an update's numbers that is uploaded, the largest ones; 1: as the federation says
        (:mod:`simulations.methods.compression`).
    error_feedback
        Add what was left out to the device's next update.
    solver
        Local optimizer, one of :data:`client.local_settings.SOLVERS`; unit ``"user"`` only.
    """

    top_k: float = 1.0
    error_feedback: bool = True
    solver: str = "adamw"

    def __post_init__(self) -> None:
        if not 0.0 < self.top_k <= 1.0:
            raise ConfigError(f"top_k must be above 0 and at most 1, not {self.top_k}")
        if self.solver not in SOLVERS:
            raise ConfigError(f"solver must be one of {', '.join(SOLVERS)}, not {self.solver!r}")


O = TypeVar("O", bound=Options)  # noqa: E741


def user_level(federation: FederationConfig, options: Options) -> FederationConfig:
    """Return a federation as it is, refusing one whose devices would have to add noise to every step.

    Raises
    ------
    ConfigError
        If its unit is ``"example"``.
    """
    if federation.unit != "user":
        raise ConfigError("this method trains at user level", hint='set unit = "user", or take the method "dp-sgd"')
    return federation


def _unchanged(federation: FederationConfig, options: Options) -> FederationConfig:
    if options.solver != "adamw" and federation.unit != "user":
        raise ConfigError("solver is for user-level training", hint='leave it out, or set unit = "user"')
    return federation


def plain(trial: Trial, options: Options) -> Trainer:
    """Return the deployed trainer, or the same with another solver."""
    return local_training if options.solver == "adamw" else Plain(options.solver)


def _shared(trial: Trial, options: Options, state: RoundState, device: Path) -> Tensor:
    return state.backbone


@dataclass(frozen=True)
class Federated(Generic[O]):
    """A method in which a server takes part.

    Guarantees
    ----------
    Server, ledger, clip, packing and admission are those of a deployment; a method says how a device
    trains and what of the federation its paper replaces, and nothing else. A trial that was killed goes
    on after the last round that was saved.

    Parameters
    ----------
    name, paper
        See :class:`simulations.methods.trial.Method`.
    options
        The dataclass of its options.
    federation
        Makes the federation that runs of the one asked for; may raise :class:`ConfigError`.
    trainer
        What a device does in a round.
    own
        The parameters, (P,), with which a device paints after a state of the server.
    """

    name: str
    paper: str
    options: type[O]
    federation: Callable[[FederationConfig, O], FederationConfig] = _unchanged
    trainer: Callable[[Trial, O], Trainer] = plain
    own: Callable[[Trial, O, RoundState, Path], Tensor] = _shared

    def check(self, options: Mapping[str, object], federation: FederationConfig) -> FederationConfig:
        """Return the federation that would run; see :class:`simulations.methods.trial.Method`."""
        try:
            chosen = self._read(options)
            found = self.federation(federation, chosen)
            sparse = chosen.top_k < 1.0 and not found.secure_aggregation
            return dataclasses.replace(found, top_k=chosen.top_k) if sparse else found
        except ConfigError as error:
            where = "" if error.message.startswith("options of") else f"{self.name}: "
            raise ConfigError(f"{where}{error.message}", hint=error.hint) from error

    def train(self, trial: Trial, *, on_round: Callable[[Moment], None]) -> None:
        """Run all rounds, or those that are left; see :class:`simulations.methods.trial.Method`.

        Raises
        ------
        ConfigError
            See :meth:`check`.
        FederationError
            If not a single update was accepted.
        """
        config, options = self.check(trial.options, trial.federation), self._read(trial.options)
        trainer = self.trainer(trial, options)
        share = min(options.top_k, config.top_k)
        if share < 1.0:
            trainer = TopK(trainer, share, options.error_feedback)

        def note(state: RoundState, report: RoundReport) -> None:
            on_round(Moment(state.round, with_vector(trial.start, state.backbone), report))

        state, failures = federate(
            make_app(trainer),
            trial.devices,
            folder=self._folder(trial),
            config=config,
            start=lambda: trial.start,
            engine=trial.engine,
            on_round=note,
        )
        _tell(self.name, state, failures)

    def backbone_of(self, trial: Trial, device: int) -> Backbone:
        """Return the network with which a device paints; see :class:`simulations.methods.trial.Method`."""
        state = StateStore(self._folder(trial)).load()
        vector = flatten(trial.start)
        if state is not None:
            vector = self.own(trial, self._read(trial.options), state, trial.devices[device])
        return with_vector(trial.start, vector)

    def _read(self, options: Mapping[str, object]) -> O:
        return parse(options, self.options, source=f"options of {self.name}")

    @staticmethod
    def _folder(trial: Trial) -> Path:
        return trial.folder / "federation"


def _tell(name: str, state: RoundState, failures: Sequence[str]) -> None:
    """Say in the log what went wrong on devices, each cause once; raise if nothing went right."""
    causes = Counter(failure.partition(": ")[2] or failure for failure in failures)
    for cause, count in sorted(causes.items()):
        getLogger("easel.sim").warning("%s: %d replies failed: %s", name, count, cause)
    if causes and not any(report.accepted for report in state.reports):
        first = failures[0].partition(": ")[2] or failures[0]
        raise FederationError(f"{name}: no device sent an update: {first}", hint="the devices' log says more")
