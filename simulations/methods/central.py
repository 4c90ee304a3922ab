"""Central: all records in one place, what privacy and federation are measured against.

FOR SIMULATION ONLY. It pools what every device was promised to keep, which nothing outside a simulation
does; it protects nobody.

A round takes as many steps as a federated round takes on all its devices together, one after the other:
the same number of records is looked at. That is not always for the better (docs/methods.md): with few records
and many steps it learns them by heart, so tune ``steps`` before calling it an upper bound.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import getLogger

from torch import Tensor

from client.data import load_records
from client.placement import place
from client.private_training import train_user_level
from client.trainer import round_seed
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import parse
from shared_model.errors import ConfigError
from shared_model.records import Batch
from shared_model.split import flatten
from simulations.engine import torch_threads
from simulations.methods.alone import AloneOptions, as_request
from simulations.methods.memory import Memory
from simulations.methods.plain import settings_of
from simulations.methods.trial import Moment, Trial
from simulations.methods.vectors import with_vector

__all__ = ["METHOD"]


@dataclass(frozen=True)
class _Central:
    name: str = "central"
    paper: str = "baseline: pooled records, simulation only"

    def check(self, options: Mapping[str, object], federation: FederationConfig) -> FederationConfig:
        """See :class:`simulations.methods.trial.Method`."""
        steps = self._read(options).steps or federation.local_steps * federation.planned
        return dataclasses.replace(federation, local_steps=steps)

    def train(self, trial: Trial, *, on_round: Callable[[Moment], None]) -> None:
        """See :class:`simulations.methods.trial.Method`; says in the log that records are pooled."""
        federation, options = self.check(trial.options, trial.federation), self._read(trial.options)
        memory, done = Memory(trial.folder, "central"), self.finished(trial)
        if done >= federation.rounds:
            return
        getLogger("easel.sim").warning("central: pools the records of all devices, in a simulation only")
        records, vector, device = _pooled(trial), self._vector(trial), place(trial.engine.device)
        for number in range(done + 1, federation.rounds + 1):
            request = as_request(federation, trial.start, run=_RUN, round=number, seed=trial.seed)
            settings, seed = settings_of(request, options.solver), round_seed(request, 0)
            work = with_vector(trial.start, vector).to(device)
            with torch_threads(trial.engine.threads):
                vector = vector + train_user_level(work, records, settings=settings, seed=seed)
            memory.keep(_RUN, number, {"all": vector})
            on_round(Moment(number, with_vector(trial.start, vector), None))

    def backbone_of(self, trial: Trial, device: int) -> Backbone:
        """See :class:`simulations.methods.trial.Method`; the same for every device."""
        return with_vector(trial.start, self._vector(trial))

    def finished(self, trial: Trial) -> int:
        """Return the last round that was finished."""
        return max(Memory(trial.folder, "central").rounds(_RUN), default=0)

    def _vector(self, trial: Trial) -> Tensor:
        kept = Memory(trial.folder, "central").recall(_RUN, before=self.finished(trial) + 1)
        return flatten(trial.start) if kept is None else kept["all"]

    @staticmethod
    def _read(options: Mapping[str, object]) -> AloneOptions:
        return parse(options, AloneOptions, source="options of central")


_RUN = "central"
METHOD = _Central()


def _pooled(trial: Trial) -> Batch:
    """Return the records of all devices.

    Raises
    ------
    ConfigError
        If they are not of one size.
    """
    batches = [load_records(device) for device in trial.devices]
    if len({batch.size_px for batch in batches}) > 1:
        raise ConfigError("the devices' records differ in size", hint="give all devices the same size_px")
    return Batch.stack(batches)
