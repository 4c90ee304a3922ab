"""Backbones as flat vectors, and which places of them a group of parameters has."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.split import shared_parameters, unflatten

__all__ = ["places", "slices", "with_vector"]


def slices(backbone: Backbone) -> dict[str, slice]:
    """Return where each shared parameter lies in a flat vector (:mod:`shared_model.split`)."""
    named, found, start = dict(backbone.named_parameters()), {}, 0
    for name in shared_parameters(backbone):
        found[name] = slice(start, start + named[name].numel())
        start += named[name].numel()
    return found


def places(backbone: Backbone, names: Collection[str]) -> Tensor:
    """Return a mask, (P,) bool, of the places of the named parameters in a flat vector."""
    where = slices(backbone)
    mask = torch.zeros(max((part.stop for part in where.values()), default=0), dtype=torch.bool)
    for name in names:
        mask[where[name]] = True
    return mask


def with_vector(backbone: Backbone, vector: Tensor) -> Backbone:
    """Return a copy of a backbone with other parameters, (P,) float32."""
    made = copy.deepcopy(backbone)
    unflatten(made, vector)
    return made
