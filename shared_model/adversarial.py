"""The four adversarial losses of the method, as per-sample pure functions.

==================  ====================================================
``hinge``           Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17
``wasserstein-gp``  Gulrajani et al. 2017, eq. 3
``lsgan``           Mao et al. 2017, eq. 9 with a=0, b=c=1
``bce``             Goodfellow et al. 2014, non-saturating generator
==================  ====================================================

Logits are ``(N, P)``; every loss is ``(N,)``: the mean over a sample's patches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.errors import ConfigError

__all__ = ["discriminator_loss", "generator_loss", "gradient_penalty"]


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return what the discriminator minimises, without penalties: ``(N, P), (N, P) -> (N,)``."""
    if kind == "hinge":
        terms = F.relu(1 - real) + F.relu(1 + fake)
    elif kind == "wasserstein-gp":
        terms = fake - real
    elif kind == "lsgan":
        terms = (real - 1).square() + fake.square()
    elif kind == "bce":
        terms = F.softplus(-real) + F.softplus(fake)
    else:
        raise ConfigError(f"unknown adversarial loss {kind!r}")
    return terms.mean(1)


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """Return what the generator minimises: ``(N, P) -> (N,)``."""
    if kind in ("hinge", "wasserstein-gp"):
        terms = -fake
    elif kind == "lsgan":
        terms = (fake - 1).square()
    elif kind == "bce":
        terms = F.softplus(-fake)
    else:
        raise ConfigError(f"unknown adversarial loss {kind!r}")
    return terms.mean(1)


def gradient_penalty(kind: str, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return the penalty on the discriminator's gradient with respect to its input.

    ``wasserstein-gp``: ``10 (|grad| - 1)^2`` at ``mix * real + (1 - mix) * fake`` (Gulrajani et al.
    2017, eq. 3). All others: R1, ``5 |grad|^2`` at ``real`` (Mescheder et al. 2018, eq. 9).

    Parameters
    ----------
    critic
        Pictures ``(N, 3, H, W)`` to logits ``(N, P)``, sample by sample.
    real, fake
        ``(N, 3, H, W)``.
    mix
        ``(N,)`` in [0, 1]: where between ``fake`` and ``real`` to look.

    Returns
    -------
    Tensor
        ``(N,)``, differentiable with respect to the discriminator's weights.
    """
    if kind == "wasserstein-gp":
        weight = mix.view(-1, 1, 1, 1)
        point = weight * real + (1 - weight) * fake
    else:
        point = real
    # torch.func.grad, unlike torch.autograd.grad, also works per record inside torch.func.vmap.
    slope: Tensor = torch.func.grad(lambda x: critic(x).mean(1).sum())(point)
    squared = slope.square().sum((1, 2, 3))
    if kind == "wasserstein-gp":
        return 10.0 * ((squared + 1e-12).sqrt() - 1).square()
    return 5.0 * squared
