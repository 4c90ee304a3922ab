"""Plain local training with a choice of solver: what most methods do with their shared part."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.data import load_records
from client.local_settings import LocalSettings
from client.private_training import train_user_level
from client.trainer import local_settings
from shared_model.backbone import Backbone
from shared_model.messages import RoundRequest

__all__ = ["Plain", "settings_of"]


def settings_of(request: RoundRequest, solver: str) -> LocalSettings:
    """Return a round's local training with another solver."""
    return dataclasses.replace(local_settings(request), solver=solver)


@dataclass(frozen=True)
class Plain:
    """The deployed user-level trainer with another solver; see :class:`client.trainer.Trainer`."""

    solver: str

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train on the device's records."""
        settings = settings_of(request, self.solver)
        return train_user_level(backbone, load_records(folder), settings=settings, seed=seed)
