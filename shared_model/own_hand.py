"""A hand of one's own: how one owner's generator differs from the shared one.

Tuning (:mod:`shared_model.tuning`) moves the generator's weights towards one owner's pictures. What is kept
is the difference, as part of the private head; the shared backbone stays as it came.

Guarantees
    The backbone is never changed: weights are added up anew for each painting. The difference is one of a
    :class:`shared_model.head.Head`'s tensors, so it is no part of :func:`shared_model.split.shared_parameters`,
    and devices train the shared backbone from the shared weights, whatever their owners' hands have learned.
Assumes
    Head and backbone belong together (:func:`shared_model.stylize.check_match`).
Edge cases
    Without a difference the shared generator paints. One of the wrong length is refused.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from shared_model.errors import CompatibilityError
from shared_model.generator import Generator

__all__ = ["check_change", "difference", "moved", "with_change"]


def moved(generator: Generator, change: Tensor) -> dict[str, Tensor]:
    """Return the generator's weights moved by ``change`` ``(G,)``, by name; the generator stays as it is.

    Raises
    ------
    CompatibilityError
        If the change is one of another generator.
    """
    check_change(generator, change)
    weights, start = {}, 0
    for name, weight in sorted(generator.named_parameters()):
        weights[name] = weight + change[start : start + weight.numel()].view_as(weight).to(weight)
        start += weight.numel()
    return weights


def difference(tuned: Generator, shared: Generator) -> Tensor:
    """Return what leads from ``shared`` to ``tuned``: ``(G,) float16`` on the CPU, parameters sorted by name."""
    before = dict(shared.named_parameters())
    parts = [(weight.detach() - before[name].detach()).flatten() for name, weight in sorted(tuned.named_parameters())]
    return torch.cat(parts).cpu().half()


def with_change(generator: Generator, change: Tensor | None) -> Generator:
    """Return a generator of one's own as a module: a copy, or the shared one where there is no change."""
    if change is None:
        return generator
    own = copy.deepcopy(generator)
    own.load_state_dict({name: weight.detach() for name, weight in moved(generator, change).items()})
    return own


def check_change(generator: Generator, change: Tensor) -> None:
    """Refuse a change that does not fit a generator.

    Raises
    ------
    CompatibilityError
        If its length is not the number of the generator's parameters.
    """
    expected = sum(weight.numel() for weight in generator.parameters())
    if change.shape != (expected,):
        raise CompatibilityError(
            f"this head's hand has {change.numel()} numbers, the backbone's {expected}",
            hint="fit it again: `easel personalize NAME IMAGES --overwrite`",
        )
