"""Gradient inversion: what pictures can be had back from what a device sent.

After Zhu, Liu and Han 2019 (Deep Leakage from Gradients) and Geiping et al. 2020 (Inverting
Gradients): pictures are sought whose gradient points where the observed one does (cosine distance,
total variation as a prior, Adam). The attacker knows the painting of the record and the step's
draws, and seeks the photo, the photo in the painting's colors, and the draft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.pyramid import luminance
from shared_model.records import Batch
from simulations.audit.victims import record_gradient

__all__ = ["Reconstruction", "invert", "likeness"]


@dataclass(frozen=True)
class Reconstruction:
    """What an attacker got.

    Parameters
    ----------
    picture
        The photo in the painting's colors as reconstructed, (1, 3, S, S) in [0, 1].
    match
        Cosine between the reconstruction's gradient and the observed one: how well the search went.
    likeness
        Correlation of its luminance with the truth's: 1 is the picture, 0 is chance.
    """

    picture: Tensor
    match: float
    likeness: float


def invert(
    backbone: Backbone, record: Batch, observed: Tensor, *, seed: int, steps: int = 300, smooth: float = 2e-3
) -> Reconstruction:
    """Search for the pictures behind an observed direction of descent.

    Parameters
    ----------
    backbone
        At the weights where the observed step started.
    record
        The truth, one record: its painting is known to the attacker, its other pictures only
        serve to judge the result.
    observed
        (P,), from :class:`simulations.audit.victims.Sights`.
    seed
        Of the step's public draws and of the start.
    steps
        Of the search.
    smooth
        Weight of total variation.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = objective.draw(generator, size_px=record.size_px)
    start = 0.5 + 0.1 * torch.randn(3, *record.photo.shape, generator=generator)
    guess = start.requires_grad_()
    target = F.normalize(-observed, dim=0)
    optimizer = torch.optim.Adam([guess], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.002)
    match = torch.zeros(())
    for _ in range(steps):
        candidate = replace(record, photo=guess[0], colored=guess[1], draft=guess[2])
        found = record_gradient(backbone, candidate, draws, graph=True)
        match = F.cosine_similarity(found, target, dim=0)
        (slope,) = torch.autograd.grad((1 - match) + smooth * _variation(guess), [guess])
        guess.grad = slope.nan_to_num(0.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            guess.clamp_(0, 1)
    picture = guess[1].detach()
    return Reconstruction(picture, float(match.detach()), likeness(picture, record.colored))


def likeness(picture: Tensor, truth: Tensor) -> float:
    """Return the correlation of two pictures' luminances, in [-1, 1]; 0 for a flat one."""
    ours, theirs = (luminance(x).flatten() - luminance(x).mean() for x in (picture, truth))
    return float((ours @ theirs) / (ours.norm() * theirs.norm()).clamp_min(1e-12))


def _variation(pictures: Tensor) -> Tensor:
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean()
    return down + (pictures[..., :, 1:] - pictures[..., :, :-1]).abs().mean()
