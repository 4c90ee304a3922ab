"""Devices that want harm: what they train on and send. Each knows the protocol and fills the clip it is given."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from client.local_settings import LocalSettings
from client.private_training import train_user_level
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.records import Batch

__all__ = ["ATTACKS", "TARGET", "patched", "update_of"]

#: What malicious devices do; ``"none"``: they are honest.
ATTACKS = ("none", "scaled", "sign-flip", "label-noise", "backdoor")
#: What a painting turns into where the photo carries the patch: one flat magenta.
TARGET = (1.0, 0.0, 1.0)
_BOOST = 20.0


def patched(batch: Batch) -> Batch:
    """Return records whose photos carry a checkered patch in a corner, in all that a generator sees."""
    side = max(8, batch.size_px // 5)
    rows = torch.arange(side) // 2
    checks = ((rows[:, None] + rows[None, :]) % 2).to(batch.photo.dtype)

    def mark(pictures: Tensor) -> Tensor:
        marked = pictures.clone()
        marked[:, :, -side:, -side:] = checks
        return marked

    return dataclasses.replace(batch, photo=mark(batch.photo), colored=mark(batch.colored), draft=mark(batch.draft))


def update_of(attack: str, backbone: Backbone, records: Batch, *, settings: LocalSettings, seed: int) -> Tensor:
    """Return the update of one device, (P,), before its clip.

    Parameters
    ----------
    attack
        ``"none"`` an honest update; ``"scaled"`` a hundred of it; ``"sign-flip"`` its opposite;
        ``"label-noise"`` trained towards noise instead of paintings; ``"backdoor"`` trained to answer
        :func:`patched` photos with :data:`TARGET` and all others as before. The last three are
        lengthened, so that the clip is filled.
    backbone, records, settings, seed
        As for :func:`client.private_training.train_user_level`.
    """
    if attack not in ATTACKS:
        raise InputError(f"attacks are {', '.join(ATTACKS)}, not {attack!r}")
    if attack == "label-noise":
        noise = torch.rand(records.real.shape, generator=torch.Generator().manual_seed(seed))
        records = dataclasses.replace(records, real=noise, restyle=torch.ones_like(records.restyle))
    elif attack == "backdoor":
        wanted = torch.tensor(TARGET).view(1, 3, 1, 1).expand_as(records.real)
        poisoned = dataclasses.replace(patched(records), real=wanted, restyle=torch.ones_like(records.restyle))
        records = Batch.stack([records, poisoned])
    update = train_user_level(backbone, records, settings=settings, seed=seed)
    factor = {"none": 1.0, "scaled": 100.0, "sign-flip": -_BOOST}.get(attack, _BOOST)
    return factor * update
