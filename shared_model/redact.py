"""Heads to give away: without memory of their pictures, with patches that are blurred or not the owner's at all.

What stays in every such head are statistics: the palette, how strong marks are, the backbone's few hundred numbers.
A hand of one's own (:mod:`shared_model.own_hand`) was trained on the pictures and does not stay.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.color import transfer
from shared_model.dictionary import Dictionary
from shared_model.head import Head
from shared_model.provenance import forget
from shared_model.pyramid import pyramid
from shared_model.samples import sample_photos

__all__ = ["blur", "drop_patches"]

_TAPS = (1.0, 4.0, 6.0, 4.0, 1.0)
_PASSES = 2  # of the taps: about 1.4 pixels standard deviation
_CANDIDATES = 1500  # patches cut from every sample photo
_RIDGE = 1e-4


def blur(head: Head) -> Head:
    """Return a head whose patches are blurred: shapes of a few pixels, letters or eyes, cannot be read off them.

    It paints softer strokes in the same colors.
    """
    taps = torch.tensor(_TAPS) / sum(_TAPS)
    levels = []
    for level in head.levels:
        patches = level.values
        for _ in range(_PASSES):
            for shape, pad in (((1, 1, 1, 5), (2, 2, 0, 0)), ((1, 1, 5, 1), (0, 0, 2, 2))):
                kernel = taps.view(shape).expand(3, *shape[1:])
                patches = F.conv2d(F.pad(patches, pad, mode="replicate"), kernel, groups=3)
        levels.append(replace(level, patches=_bytes(patches)))
    return forget(replace(head, levels=tuple(levels), change=None))


def drop_patches(head: Head, *, seed: int = 0) -> Head:
    """Return a head with no patch of the owner's: easel's sample photos are cut up instead.

    Per level they are moved onto the owner's palette and given the mean and covariance of the owner's patches, so
    that light, dark and colors fall as before. Strokes are gone; what looks like them is added by the strength of
    marks and the backbone.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = [pyramid(transfer(photo, head.color), len(head.levels)) for photo in sample_photos()]
    levels = []
    for index, level in enumerate(head.levels):
        public = torch.cat([_cut(step[index][0], level.side, generator) for step in steps])
        like = _alike(public.flatten(1), level.values.flatten(1)).view_as(public)
        levels.append(
            Dictionary.fit(
                like.clamp(0, 1),
                atoms=len(level.price),
                components=level.keys.shape[1],
                generator=generator,
                softness=head.config.softness,
                bias=head.config.bias_at(index),
            )
        )
    return forget(replace(head, levels=tuple(levels), change=None))._priced()


def _cut(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cut random patches ``(n, 3, side, side)`` out of ``(3, H, W)``."""
    rows = torch.randint(0, picture.shape[1] - side + 1, (_CANDIDATES,), generator=generator)
    columns = torch.randint(0, picture.shape[2] - side + 1, (_CANDIDATES,), generator=generator)
    return picture.unfold(1, side, 1).unfold(2, side, 1)[:, rows, columns].transpose(0, 1)


def _alike(points: Tensor, wanted: Tensor) -> Tensor:
    """Move points ``(n, d)`` so that their mean and covariance become those of ``wanted`` (Monge-Kantorovich)."""
    own, theirs = _covariance(points), _covariance(wanted)
    root, inverse = _power(own, 0.5), _power(own, -0.5)
    matrix = inverse @ _power(root @ theirs @ root, 0.5) @ inverse
    return (points - points.mean(0)) @ matrix.T + wanted.mean(0)


def _covariance(points: Tensor) -> Tensor:
    centred = points - points.mean(0)
    return centred.T @ centred / len(points) + _RIDGE * torch.eye(points.shape[1])


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors @ torch.diag(values.clamp_min(1e-9) ** exponent) @ vectors.T
    return result


def _bytes(patches: Tensor) -> Tensor:
    return (patches * 255).round().clamp(0, 255).to(torch.uint8)
