"""What a device computes in a round: the one seam where another way to train is put in.

Everything around it stays as it is, whoever trains: the ledger is asked before, the update is clipped,
packed and noted after (:mod:`client.app`). So a trainer can make an update useless, never unbounded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from client.data import load_records
from client.local_settings import LocalSettings
from client.private_training import train_example_level, train_user_level
from shared_model.backbone import Backbone
from shared_model.messages import RoundRequest

__all__ = ["Placed", "Trainer", "local_settings", "local_training", "round_seed"]


class Trainer(Protocol):
    """Turns a device's records into an update."""

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train on the records of one device.

        Parameters
        ----------
        backbone
            As the server sent it, where training is to compute (:class:`Placed`); its numbers are left as
            they are.
        folder
            The device's own folder.
        request
            The round's public settings.
        seed
            Of minibatches and projections.

        Returns
        -------
        Tensor
            New minus old parameters, (P,) float32 on the CPU, in the order of :mod:`shared_model.split`; the
            caller clips it. At unit ``"example"`` it must be private already.
        """


@dataclass(frozen=True)
class Placed:
    """A trainer whose backbone is put on a device first; all that is private stays on the CPU.

    Parameters
    ----------
    inner
        Trains.
    device
        Where.
    """

    inner: Trainer
    device: torch.device

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train there; see :class:`Trainer`."""
        return self.inner(backbone.to(self.device), folder, request, seed=seed)


def local_settings(request: RoundRequest) -> LocalSettings:
    """Return what a round's settings say about local training."""
    return LocalSettings(
        steps=request.local_steps,
        batch=request.batch,
        lr=request.learning_rate,
        critic_lr=request.learning_rate,
        noise_multiplier=request.noise_multiplier,
        sample_rate=request.record_rate,
        bound=request.record_clip,
        loss=request.loss,
    )


def local_training(backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
    """Train on the device's fixed records, as deployed: plain steps (user level) or DP-SGD (example level)."""
    records, settings = load_records(folder), local_settings(request)
    if request.unit == "user":
        return train_user_level(backbone, records, settings=settings, seed=seed)
    return train_example_level(backbone, records, settings=settings, seed=seed)[0]


def round_seed(request: RoundRequest, device: int) -> int:
    """Derive the seed of a device's minibatches and projections in a round; protection never rests on it.

    A round that is repeated after a crash has the same one.
    """
    text = f"{request.seed}/{request.run}/{request.round}/{device}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
