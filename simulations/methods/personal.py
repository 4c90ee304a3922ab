"""How good a device's own network is on its own held-out records: every device, not only the average.

Measured in the simulation; nothing of it would leave a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from client.data import SETTINGS, load_records
from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.errors import MissingError
from shared_model.objective import draw, generator_loss
from shared_model.records import Batch
from simulations.methods.trial import Method, Trial

__all__ = ["TEST", "held_out", "loss_on", "mean", "measure", "worst_decile"]

#: Folder within a device's folder: a device folder of its own, of pictures that the device does not train on.
TEST = "test"
_CHUNK = 4  # records whose loss is computed at a time
_PLAIN = LossConfig(adversarial="none")


def measure(trial: Trial, method: Method, device: int) -> float:
    """Return the loss of a device's network on the device's own held-out records; lower is better.

    Parameters
    ----------
    trial, method
        What was trained, and how; the method's rounds so far count.
    device
        Number of the device in ``trial.devices``.

    Raises
    ------
    MissingError
        If the device has no held-out records.
    """
    return loss_on(held_out(trial.devices[device]), method.backbone_of(trial, device))


def held_out(folder: Path | str) -> Batch:
    """Return the records of a device that it does not train on.

    Raises
    ------
    MissingError
        If it has none.
    """
    home = Path(folder) / TEST
    if not (home / SETTINGS).is_file():
        raise MissingError(
            f"{folder} has no held-out records", hint=f"make its {TEST} folder a device folder of other pictures"
        )
    return load_records(home)


@torch.no_grad()
def loss_on(records: Batch, backbone: Backbone, *, seed: int = 0) -> float:
    """Return the mean generator loss over records, with the same projections for every backbone.

    Without the adversarial term, which compares a backbone with its own critic and says nothing across
    backbones.
    """
    draws = draw(torch.Generator().manual_seed(seed), size_px=records.size_px)
    parts = [
        generator_loss(backbone, records.select(some), draws, loss=_PLAIN)[0]
        for some in torch.arange(len(records)).split(_CHUNK)
    ]
    return float(torch.cat(parts).mean())


def mean(losses: Sequence[float]) -> float:
    """Return the mean over devices, each weighing the same; NaN of none."""
    return math.fsum(losses) / len(losses) if losses else math.nan


def worst_decile(losses: Sequence[float]) -> float:
    """Return the mean over the worst tenth of the devices, at least one; NaN of none."""
    worst = sorted(losses, reverse=True)[: max(1, math.ceil(len(losses) / 10))]
    return mean(worst)
