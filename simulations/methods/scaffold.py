"""SCAFFOLD: Karimireddy et al. 2020, "SCAFFOLD: stochastic controlled averaging for federated learning" (ICML).

A device corrects each local step by the difference between where the fleet goes, ``c``, and where it would
go alone, ``c_i`` (algorithm 1), so that devices with different pictures stop pulling apart. Its own control
is updated by option II: ``c_i <- c_i - c + (x - y_i) / (K * rate)``, which is the mean direction of its K
steps.

The server's control needs no upload and no download of its own. Under option II and full participation it
is the mean of ``(x - y_i) / (K * rate)`` over the devices: the way the backbone moved in the last round, over
``K * rate``. A device remembers the backbone that it was sent last, and compares.

Consequences
    *Partial participation*: the paper's ``c`` is a mean over all devices, each as of its last time; ours is
    the mean over the cohorts since this device's own last time. Both are zero before.
    *Clipping*: a clip that cuts shortens what the server released, and with it ``c``, but not ``c_i``. Use
    one that seldom cuts.
    *Noise*: ``c`` is made of what was released, so it costs no privacy, but it carries that noise, of
    deviation ``noise_multiplier * clip / (cohort * K * rate)`` in each number and round.
    *Solver*: with ``"adamw"`` directions are AdamW's, not gradients; the algebra is the same, the paper's
    theory is about ``"sgd"``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from client.data import load_records
from client.private_training import AfterStep, train_user_level
from client.trainer import Trainer
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.messages import RoundRequest
from shared_model.split import flatten
from simulations.methods.federated import Federated, Options, user_level
from simulations.methods.memory import Memory
from simulations.methods.plain import settings_of
from simulations.methods.trial import Trial
from simulations.methods.vectors import slices

__all__ = ["METHOD", "Controlled"]


@dataclass(frozen=True)
class Controlled:
    """Local training with control variates; see :class:`client.trainer.Trainer`.

    Parameters
    ----------
    server_lr
        Of the federation: what the backbone moves for an average of one.
    solver
        Local optimizer.
    """

    server_lr: float = 1.0
    solver: str = "adamw"

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train on the device's records, corrected."""
        memory, settings = Memory(folder, "scaffold"), settings_of(request, self.solver)
        sent, way = flatten(backbone), settings.steps * settings.lr
        kept = memory.recall(request.run, before=request.round)
        own = common = torch.zeros_like(sent)
        if kept is not None:
            rounds = request.round - int(kept["round"])
            own, common = kept["control"], (kept["sent"] - sent) / (rounds * way * self.server_lr)
        delta = train_user_level(
            backbone,
            load_records(folder),
            settings=settings,
            seed=seed,
            after_step=_corrected(backbone, common - own),
        )
        found = {"control": own - common - delta / way, "sent": sent, "round": torch.tensor(request.round)}
        memory.keep(request.run, request.round, found, attempt=request.attempt)
        return delta


def _corrected(backbone: Backbone, correction: Tensor) -> AfterStep:
    """Return what takes ``rate * correction`` off after each step."""
    where, correction = slices(backbone), correction.to(next(backbone.parameters()).device)

    def correct(moved: Mapping[str, nn.Parameter], rate: float) -> None:
        for name, parameter in moved.items():
            parameter.sub_(correction[where[name]].view_as(parameter), alpha=rate)

    return correct


def _federation(federation: FederationConfig, options: Options) -> FederationConfig:
    return dataclasses.replace(user_level(federation, options), optimizer="fedavg")


def _trainer(trial: Trial, options: Options) -> Trainer:
    return Controlled(trial.federation.server_lr, options.solver)


METHOD = Federated(
    name="scaffold",
    paper="Karimireddy et al. 2020, SCAFFOLD: stochastic controlled averaging for federated learning",
    options=Options,
    federation=_federation,
    trainer=_trainer,
)
