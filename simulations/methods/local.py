"""Local only: every device trains on its own records and shares nothing. The baseline of personal learning.

In every round every device takes the federation's local steps, from where it stopped, whether or not a
cohort would have asked it. Nothing leaves a device: no bytes, no privacy spent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.data import load_device, load_records
from client.placement import place
from client.private_training import train_user_level
from client.trainer import round_seed
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import parse
from shared_model.messages import RoundRequest
from shared_model.split import flatten
from simulations.engine import torch_threads
from simulations.methods.alone import AloneOptions, as_request
from simulations.methods.memory import Memory
from simulations.methods.plain import settings_of
from simulations.methods.trial import Moment, Trial
from simulations.methods.vectors import with_vector

__all__ = ["METHOD"]


@dataclass(frozen=True)
class _Local:
    name: str = "local"
    paper: str = "baseline: no federation"

    def check(self, options: Mapping[str, object], federation: FederationConfig) -> FederationConfig:
        """See :class:`simulations.methods.trial.Method`."""
        steps = self._read(options).steps
        return dataclasses.replace(federation, local_steps=steps) if steps else federation

    def train(self, trial: Trial, *, on_round: Callable[[Moment], None]) -> None:
        """See :class:`simulations.methods.trial.Method`; the shared backbone of every moment is the start."""
        federation, options = self.check(trial.options, trial.federation), self._read(trial.options)
        for number in range(self.finished(trial) + 1, federation.rounds + 1):
            request = as_request(federation, trial.start, run=_RUN, round=number, seed=trial.seed)
            for device in trial.devices:
                _train(trial, device, request, solver=options.solver)
            on_round(Moment(number, trial.start, None))

    def backbone_of(self, trial: Trial, device: int) -> Backbone:
        """See :class:`simulations.methods.trial.Method`."""
        return with_vector(trial.start, _own(trial.start, trial.devices[device], before=self.finished(trial) + 1))

    def finished(self, trial: Trial) -> int:
        """Return the last round that every device has finished."""
        return min((max(Memory(device, "local").rounds(_RUN), default=0) for device in trial.devices), default=0)

    @staticmethod
    def _read(options: Mapping[str, object]) -> AloneOptions:
        return parse(options, AloneOptions, source="options of local")


_RUN = "local"
METHOD = _Local()


def _own(start: Backbone, device: Path, *, before: int) -> Tensor:
    """Return a device's own parameters, (P,), before a round."""
    kept = Memory(device, "local").recall(_RUN, before=before)
    return flatten(start) if kept is None else kept["own"]


def _train(trial: Trial, device: Path, request: RoundRequest, *, solver: str) -> None:
    """Take one device's steps of a round, unless it has taken them before the trial was killed."""
    memory = Memory(device, "local")
    if request.round in memory.rounds(_RUN):
        return
    own, seed = _own(trial.start, device, before=request.round), round_seed(request, load_device(device).seed)
    work, records = with_vector(trial.start, own).to(place(trial.engine.device)), load_records(device)
    with torch_threads(trial.engine.threads):
        moved = train_user_level(work, records, settings=settings_of(request, solver), seed=seed)
    memory.keep(_RUN, request.round, {"own": own + moved})
