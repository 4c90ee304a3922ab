"""Methods that share a part of the backbone: the other part stays on the device and is never uploaded.

The upload is still one vector of the whole backbone, with zeros where the device's own part is. They are
set before the clip, so that they take nothing of it, and they say nothing of the device. They are on the
wire, though: the bytes are those of a whole update. The server's noise falls on its own copy of that part
too, which nobody uses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from client.data import load_records
from client.private_training import train_user_level
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.messages import RoundRequest
from shared_model.split import flatten, shared_parameters
from simulations.methods.memory import Memory
from simulations.methods.plain import settings_of
from simulations.methods.trial import Trial
from simulations.methods.vectors import places, with_vector

__all__ = ["PartlyOwn", "merged"]


@dataclass(frozen=True, eq=False)
class PartlyOwn:
    """Trains a shared and an own part of the backbone; see :class:`client.trainer.Trainer`.

    Parameters
    ----------
    name
        Of the method.
    own
        Names of the parameters that are the device's own.
    first
        (P,) float32: the backbone that every device has before the first round, from which its own part
        starts.
    own_steps
        0: both parts are trained together for the round's local steps. Otherwise the own part is
        trained first, for so many steps, and then the shared part for the round's local steps.
    solver
        Local optimizer.
    """

    name: str
    own: frozenset[str]
    first: Tensor
    own_steps: int = 0
    solver: str = "adamw"

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train both parts and return what the shared one moved; zeros elsewhere."""
        records, settings = load_records(folder), settings_of(request, self.solver)
        memory, mask = Memory(folder, self.name), places(backbone, self.own)
        before = merged(memory, request.run, mask, flatten(backbone), self.first, before=request.round)
        work = with_vector(backbone, before)
        if self.own_steps:
            few = dataclasses.replace(settings, steps=self.own_steps)
            moved = train_user_level(work, records, settings=few, seed=seed, only=self.own)
            work = with_vector(work, before + moved)
            shared = frozenset(shared_parameters(backbone)) - self.own
            moved = moved + train_user_level(work, records, settings=settings, seed=seed, only=shared)
        else:
            moved = train_user_level(work, records, settings=settings, seed=seed)
        memory.keep(request.run, request.round, {"own": (before + moved)[mask]}, attempt=request.attempt)
        return torch.where(mask, 0.0, moved)

    def backbone_of(self, trial: Trial, state: RoundState, device: Path) -> Tensor:
        """Return the shared part of the server's state with the device's own part, (P,)."""
        mask, memory = places(trial.start, self.own), Memory(device, self.name)
        return merged(memory, state.run, mask, state.backbone, self.first, before=state.round + 1)


def merged(memory: Memory, run: str, mask: Tensor, shared: Tensor, first: Tensor, *, before: int) -> Tensor:
    """Return ``shared`` (P,) with the device's own part where ``mask`` (P,) says so."""
    own = memory.recall(run, before=before)
    found = shared.clone()
    found[mask] = first[mask] if own is None else own["own"]
    return found
