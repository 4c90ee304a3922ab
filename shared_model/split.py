"""The only place that says what is shared between devices: all of the backbone, none of a head.

The shared parameters travel as ONE flat float32 vector in a fixed order (sorted by name). Updates,
clipping, noise and aggregation all act on that vector.

Guarantees
    What :func:`flatten` returns depends on the backbone alone. A :class:`shared_model.head.Head` is
    not a module and cannot be registered in one, so none of its tensors can be among the names.
Assumes
    The backbone has no buffers; a test checks it.
Edge cases
    A vector of the wrong length, of another type or with a non-finite value is refused and leaves
    the backbone as it was.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import CompatibilityError

__all__ = ["flatten", "shared_parameters", "size", "unflatten"]


def shared_parameters(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of all shared parameters in the order in which they travel."""
    return tuple(sorted(name for name, _ in backbone.named_parameters()))


def flatten(backbone: Backbone) -> Tensor:
    """Return a copy of the shared parameters as one ``(P,) float32`` vector on the CPU."""
    named = dict(backbone.named_parameters())
    parts = [named[name].detach().reshape(-1).to("cpu", torch.float32) for name in shared_parameters(backbone)]
    return torch.cat(parts)


def unflatten(backbone: Backbone, vector: Tensor) -> None:
    """Write a flat vector into the backbone, in place.

    Raises
    ------
    CompatibilityError
        If the vector does not fit; the backbone is then unchanged.
    """
    named = dict(backbone.named_parameters())
    names = shared_parameters(backbone)
    expected = sum(named[name].numel() for name in names)
    if vector.dim() != 1 or len(vector) != expected:
        raise CompatibilityError(
            f"a backbone vector of {vector.numel()} numbers does not fit one of {expected}",
            hint="server and device must use the same backbone architecture",
        )
    if vector.dtype != torch.float32 or not bool(torch.isfinite(vector).all()):
        raise CompatibilityError("a backbone vector must be finite float32 numbers")
    start = 0
    with torch.no_grad():
        for name in names:
            parameter = named[name]
            part = vector[start : start + parameter.numel()]
            parameter.copy_(part.view_as(parameter))
            start += parameter.numel()


@lru_cache(maxsize=64)
def size(config: ModelConfig) -> int:
    """Return how many parameters a backbone of this configuration shares."""
    return sum(p.numel() for p in Backbone(config).parameters())
