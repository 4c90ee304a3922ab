"""The critic: is this patch painted, and painted like that picture.

A patch discriminator (Isola et al. 2017) at two scales with projection conditioning (Miyato &
Koyama 2018): it sees a reference crop of the painting beside the picture it judges. No
normalisation, no buffers: DP-safe, and a gradient penalty stays per sample.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_model.config import ModelConfig

__all__ = ["Discriminator"]

_SLOPE = 0.2  # of the leaky ReLUs


class Discriminator(nn.Module):
    """Per-patch logits of a picture, conditioned on a reference crop of the painter's work."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w = config.critic_width
        self.first = nn.Conv2d(3, w, 4, 2, 1)
        self.second = nn.Conv2d(w, 2 * w, 4, 2, 1)
        self.third = nn.Conv2d(2 * w, 3 * w, 4, 2, 1)
        self.fourth = nn.Conv2d(3 * w, 3 * w, 3, 1, 1)
        self.fine_logit = nn.Conv2d(2 * w, 1, 1)
        self.coarse_logit = nn.Conv2d(3 * w, 1, 1)
        statistics = 2 * (2 * w + 3 * w)
        self.fine_projection = nn.Linear(statistics, 2 * w)
        self.coarse_projection = nn.Linear(statistics, 3 * w)
        for layer in self.children():  # features must not shrink from layer to layer (He et al. 2015, eq. 15)
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.leaky_relu(self.first(x * 2 - 1), _SLOPE)
        fine = F.leaky_relu(self.second(h), _SLOPE)
        h = F.leaky_relu(self.third(fine), _SLOPE)
        return fine, F.leaky_relu(self.fourth(h), _SLOPE)

    def embed(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Turn a reference crop ``(N, 3, H, W)`` into the two projection vectors ``(N, 2w)`` and ``(N, 3w)``."""
        statistics = []
        for h in self._features(reference):
            mean = h.mean((2, 3))
            deviation = ((h - mean[:, :, None, None]).square().mean((2, 3)) + 1e-4).sqrt()
            statistics += [mean, deviation]
        joined = torch.cat(statistics, 1)
        return self.fine_projection(joined), self.coarse_projection(joined)

    def forward(self, x: Tensor, embedding: tuple[Tensor, Tensor]) -> Tensor:
        """Judge pictures.

        Parameters
        ----------
        x
            ``(N, 3, H, W)``, nominally in [0, 1].
        embedding
            What :meth:`embed` made of the references.

        Returns
        -------
        Tensor
            ``(N, P)`` logits, all patches of both scales; large means "by this painter".
        """
        fine, coarse = self._features(x)
        logits = []
        for h, head, vector in zip((fine, coarse), (self.fine_logit, self.coarse_logit), embedding, strict=True):
            agreement = (h * vector[:, :, None, None]).mean(1, keepdim=True)
            logits.append((head(h) + agreement).flatten(1))
        return torch.cat(logits, 1)
