"""How good a device's own network is on its own test records: every device, not only the average.

Measured in the simulation; nothing of it would leave a device.
"""

from __future__ import annotations

import torch

from shared_model.backbone import Backbone
from shared_model.errors import MissingError
from shared_model.objective import draw
from shared_model.records import Batch
from simulations.evaluation import loss_on
from simulations.methods.trial import Method, Trial
from simulations.populations import test_records

__all__ = ["measure", "personal_loss"]


def measure(trial: Trial, method: Method, device: int) -> float:
    """Return the loss of a device's network on the device's own test records; lower is better.

    Parameters
    ----------
    trial, method
        What was trained, and how; the method's rounds so far count.
    device
        Number of the device in ``trial.devices``.

    Raises
    ------
    MissingError
        If the device has no test records.
    """
    records = test_records(trial.devices[device])
    if records is None:
        raise MissingError(
            f"{trial.devices[device]} has no test records",
            hint="make its test folder a device folder of other pictures",
        )
    return personal_loss(records, method.backbone_of(trial, device))


def personal_loss(records: Batch, backbone: Backbone, *, seed: int = 0) -> float:
    """Return the mean generator loss over records, with the same projections for every backbone."""
    draws = draw(torch.Generator().manual_seed(seed), size_px=records.size_px)
    return loss_on(records, backbone, draws=draws)
