"""From many clipped updates to one new backbone: a streaming sum, noise, and a server optimiser.

Memory is that of the model: an update is added as it comes and forgotten. An optimiser is two pure
functions, ``start`` and ``apply``, and its state is a plain mapping of arrays that can be saved
(after FedJAX, Ro et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_model.discrete import add_toward_zero, lattice, to_lattice
from shared_model.errors import ConfigError, FederationError
from shared_model.noise import secure_normal

__all__ = ["Moments", "Noise", "ServerOptimizer", "StreamingSum", "noisy_average", "server_optimizer"]

#: A server optimiser's state, one (P,) float32 array per name.
Moments = Mapping[str, Tensor]

_MOMENTUM = 0.9
_BETA1, _BETA2, _TAU = 0.9, 0.99, 1e-3


class Noise(Protocol):
    """Draws Gaussian noise as float64; :func:`shared_model.noise.secure_normal` outside tests."""

    def __call__(self, shape: tuple[int, ...], *, std: float) -> Tensor:
        """Return noise of this shape and standard deviation, in multiples of ``lattice(std)``."""


class StreamingSum:
    """Adds updates one at a time, exactly.

    Guarantees
    ----------
    With a ``step`` each update is put on the lattice on its own, towards zero, so its norm does not
    grow, and the float64 sum is exact below 2^53 steps: it does not depend on the order, and one
    device changes it by at most its clip.

    Parameters
    ----------
    size
        Length of an update.
    step
        The lattice of the noise that will be added (:func:`shared_model.discrete.lattice`); 0 for a
        plain float64 sum, where no noise will be.
    """

    def __init__(self, size: int, *, step: float = 0.0) -> None:
        self.step = step
        self.total = torch.zeros(size, dtype=torch.float64)
        self.count = 0
        self.within = 0.0

    def add(self, update: Tensor | npt.NDArray[np.floating], *, within: bool | None = None) -> None:
        """Add one admitted update, (P,) of any floating type, with weight one.

        Parameters
        ----------
        update
            The update; only looked at, so an array of a reply's own bytes will do.
        within
            Whether it was within the clip: adds 1/2 or -1/2 to the sum ``within``; ``None``: 0.

        Raises
        ------
        FederationError
            If its length is wrong; nothing is added then.
        """
        if update.shape != self.total.shape:
            raise FederationError(f"an update has shape {tuple(update.shape)}, not {tuple(self.total.shape)}")
        add_toward_zero(self.total, update, step=self.step)
        self.count += 1
        self.within += 0.0 if within is None else within - 0.5

    @property
    def least(self) -> int:
        """Updates below which there is no result."""
        return 0

    def average(self, *, planned: int, std: float, noise: Noise) -> Tensor:
        """Return :func:`noisy_average` of what was added."""
        return noisy_average(self, planned=planned, std=std, noise=noise)


def noisy_average(total: StreamingSum, *, planned: int, std: float, noise: Noise = secure_normal) -> Tensor:
    """Add Gaussian noise to the SUM and divide by the PLANNED cohort.

    Guarantees
    ----------
    One device changes the sum by at most the clip, so noise of ``std = noise_multiplier * clip``
    makes the result a Gaussian mechanism with that multiplier. The divisor is public and does not
    depend on who replied. Sum and noise are whole numbers of lattice steps and their sum is exact:
    dividing and rounding it to float32 afterwards is post-processing, so no low bits of
    floating-point numbers leak (:mod:`shared_model.discrete`).

    Assumes
    -------
    Every update was admitted with an L2 norm of at most the clip, and at most once per device.
    ``total`` was summed on ``lattice(std)``; if not, it is put there now, and rounding may add
    2^-24 standard deviations per parameter to the sensitivity.

    Edge cases
    ----------
    No updates: the result is noise alone. ``std=0``: the plain average (no privacy).

    Parameters
    ----------
    total
        The summed updates.
    planned
        Devices planned for the round, at least 1.
    std
        Standard deviation of the noise on the sum.
    noise
        Where the noise comes from.

    Returns
    -------
    Tensor
        (P,) float32.
    """
    if planned < 1:
        raise FederationError(f"the planned cohort must be at least 1, not {planned}")
    if not (math.isfinite(std) and std >= 0):
        raise FederationError(f"the noise on the sum must be 0 or more and finite, not {std}")
    drawn = noise(tuple(total.total.shape), std=std)
    step = lattice(std) if std else 0.0
    exact = to_lattice(total.total, step=step) + to_lattice(drawn, step=step)
    return (exact / planned).float()


@dataclass(frozen=True)
class ServerOptimizer:
    """What the server does with a noisy average: two pure functions.

    Parameters
    ----------
    start
        ``start(backbone) -> moments``.
    apply
        ``apply(backbone, average, moments) -> (backbone, moments)``; nothing is changed in place.
    """

    start: Callable[[Tensor], Moments]
    apply: Callable[[Tensor, Tensor, Moments], tuple[Tensor, Moments]]


def server_optimizer(name: str, *, rate: float) -> ServerOptimizer:
    """Return ``"fedavg"``, ``"fedavgm"`` (momentum), ``"fedadam"`` or ``"fedyogi"`` with the step size ``rate``.

    FedAvg adds ``rate * average``. FedAvgM, FedAdam and FedYogi are those of Reddi et al. 2021
    (Adaptive Federated Optimization), without bias correction, with momentum 0.9 and with beta1 0.9,
    beta2 0.99, tau 1e-3.

    Raises
    ------
    ConfigError
        For another name.
    """

    def fedavg(backbone: Tensor, average: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        return backbone + rate * average, moments

    def fedavgm(backbone: Tensor, average: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        first = _MOMENTUM * moments["first"] + average
        return backbone + rate * first, {"first": first}

    def fedadam(backbone: Tensor, average: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        first = _BETA1 * moments["first"] + (1 - _BETA1) * average
        second = _BETA2 * moments["second"] + (1 - _BETA2) * average**2
        step = rate * first / (second.sqrt() + _TAU)
        return backbone + step, {"first": first, "second": second}

    def fedyogi(backbone: Tensor, average: Tensor, moments: Moments) -> tuple[Tensor, Moments]:
        first = _BETA1 * moments["first"] + (1 - _BETA1) * average
        square = average**2
        second = moments["second"] - (1 - _BETA2) * square * torch.sign(moments["second"] - square)
        return backbone + rate * first / (second.sqrt() + _TAU), {"first": first, "second": second}

    def adaptive(backbone: Tensor) -> Moments:
        return {"first": torch.zeros_like(backbone), "second": torch.full_like(backbone, _TAU**2)}

    known = {
        "fedadam": ServerOptimizer(adaptive, fedadam),
        "fedavg": ServerOptimizer(lambda backbone: {}, fedavg),
        "fedavgm": ServerOptimizer(lambda backbone: {"first": torch.zeros_like(backbone)}, fedavgm),
        "fedyogi": ServerOptimizer(adaptive, fedyogi),
    }
    if name not in known:
        raise ConfigError(f"optimizer must be one of {', '.join(known)}, not {name!r}")
    return known[name]
