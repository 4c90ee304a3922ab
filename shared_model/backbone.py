"""The shared backbone: generator, style encoder and discriminator in one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from shared_model.config import ModelConfig
from shared_model.discriminator import Discriminator
from shared_model.generator import Generator, StyleEncoder
from shared_model.own_hand import moved

__all__ = ["Backbone"]


class Backbone(nn.Module):
    """Everything that devices train together; nothing in it belongs to one owner.

    Parameters
    ----------
    config
        Sizes; the default has about 0.58 million parameters.
    seed
        Seed of the initial weights; the global random state is left untouched.
    """

    def __init__(self, config: ModelConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = Generator(self.config)
            self.style_encoder = StyleEncoder(self.config)
            self.discriminator = Discriminator(self.config)

    def encode(self, style: Tensor) -> Tensor:
        """Read the modulation numbers ``(N, M)`` off pictures ``(N, 3, H, W) float in [0, 1]``."""
        result: Tensor = self.style_encoder(style)
        return result

    def paint(
        self, colored: Tensor, draft: Tensor, modulation: Tensor, noise: Tensor, change: Tensor | None = None
    ) -> Tensor:
        """Finish a draft; see :meth:`shared_model.generator.Generator.forward`.

        ``change`` ``(G,)`` moves the generator's weights for this painting (:mod:`shared_model.own_hand`).
        """
        seen = colored, draft, modulation, noise
        result: Tensor
        if change is None:
            result = self.generator(*seen)
        else:
            result = functional_call(self.generator, moved(self.generator, change), seen)
        return result
