"""The proximal step: draws parameters back to where they came from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from client.private_training import AfterStep
from shared_model.backbone import Backbone

__all__ = ["drawn_to"]


def drawn_to(anchor: Backbone, strength: float) -> AfterStep:
    """Return what makes local steps minimise ``loss(w) + strength / 2 * |w - anchor|^2``.

    It is the exact proximal operator of the second term, after each step on the first (forward-backward
    splitting): ``w <- (w + rate * strength * anchor) / (1 + rate * strength)``. Unlike a gradient of that
    term it is stable at any strength, and a solver that rescales gradients does not rescale it. With
    strength 0 nothing happens, to the bit; with ever larger ones the parameters stay at the anchor.

    Parameters
    ----------
    anchor
        Where to draw to; read when this is called.
    strength
        0 or more.
    """
    there: dict[str, Tensor] = {name: p.detach().clone() for name, p in anchor.named_parameters()}

    def draw_back(moved: Mapping[str, nn.Parameter], rate: float) -> None:
        share = rate * strength / (1.0 + rate * strength)
        for name, parameter in moved.items():
            torch.lerp(parameter, there[name], share, out=parameter)

    def rest(moved: Mapping[str, nn.Parameter], rate: float) -> None:
        """Leave everything as it is."""

    return draw_back if strength > 0.0 else rest
