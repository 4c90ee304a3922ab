"""The painter's hand: a style encoder, and a generator that finishes a head's draft.

Both are DP-safe: no batch statistics, no buffers, every weight used once per forward pass. The
generator has no normalisation at all, so a picture painted in tiles equals the picture painted
whole up to the convolutions' reach. Upsampling is resize + convolution (Odena et al. 2016), which
leaves no checkerboard.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_model.config import ModelConfig
from shared_model.pyramid import box, pad_reflect

__all__ = ["MULTIPLE", "Generator", "StyleEncoder", "modulation_size"]

MULTIPLE = 4  # the generator works on pictures whose sides are multiples of this
_FINE = 16  # channels at half the resolution


class Conv(nn.Conv2d):
    """3x3 convolution with reflected borders and He initialisation for leaky ReLU.

    With another ``side`` its steps are as wide as it is itself: 1 mixes channels, 4 reads tiles of 4 x 4 pixels.
    """

    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0, side: int = 3) -> None:
        super().__init__(inputs, outputs, side, stride=1 if side == 3 else side)
        nn.init.kaiming_normal_(self.weight, a=0.1)
        with torch.no_grad():
            self.weight.mul_(gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, or tiles to pixels."""
        return super().forward(pad_reflect(x, 1) if self.kernel_size[0] == 3 else x)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.1."""
    return F.leaky_relu(x, 0.1)


def modulation_size(config: ModelConfig) -> int:
    """How many modulation numbers a head holds: a scale and a shift for each modulated channel."""
    return 2 * (config.blocks * config.width + _FINE)


class StyleEncoder(nn.Module):
    """Picture to modulation numbers, through means and deviations of four stages of features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        base = config.encoder_width
        widths = (base, 2 * base, 8 * base // 3, 4 * base)
        self.stages = nn.ModuleList(Conv(i, o) for i, o in zip((3, *widths[:-1]), widths, strict=True))
        self.hidden = nn.Linear(2 * sum(widths), 2 * config.code_dim)
        self.code = nn.Linear(2 * config.code_dim, config.code_dim)
        self.modulation = nn.Linear(config.code_dim, modulation_size(config))
        nn.init.normal_(self.modulation.weight, std=0.05)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, style: Tensor) -> Tensor:
        """``(N, 3, H, W) float in [0, 1]`` to ``(N, M)`` modulation numbers around 0."""
        h, statistics = style * 2 - 1, []
        for i, stage in enumerate(self.stages):
            h = activate(stage(F.avg_pool2d(h, 2) if i else h))
            mean = h.mean((2, 3))
            variance = (h - mean[:, :, None, None]).square().mean((2, 3))
            statistics += [mean, (variance + 1e-4).sqrt()]
        result: Tensor = self.modulation(self.code(activate(self.hidden(torch.cat(statistics, 1)))))
        return result


class Generator(nn.Module):
    """Finish a draft: ``output = draft + mask * (colored - draft) + gain * detail(draft) + light``.

    Per pixel, the network decides three things only: how much of the photo comes back (``mask``),
    how much the owner's own strokes are strengthened or smoothed (``gain``, -2 to 2, on the draft's high-pass),
    and where light and shade are added (``light``, the same for red, green and blue). It can
    neither invent colors nor paint strokes that are not the owner's. A free color residual,
    tried first, learned colored speckle (docs/model.md).

    The trunk works at a quarter of the resolution, on tiles of 4 x 4 pixels, and is plain (``cnn``) or
    residual (``resnet``; He et al. 2016). Each block is modulated by a scale and a shift per channel (FiLM;
    Perez et al. 2018). Decisions are taken at half the resolution, where they cost a quarter, and
    enlarged; draft and photo are mixed in full.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.residual = config.trunk == "resnet"
        self.width = config.width
        width = config.width
        self.enter = Conv(7, width, side=MULTIPLE)
        self.first = nn.ModuleList(Conv(width, width) for _ in range(config.blocks))
        self.second = nn.ModuleList(
            Conv(width, width, gain=0.3 if self.residual else 1.0) for _ in range(config.blocks)
        )
        self.narrow = Conv(width, _FINE, side=1)
        self.middle = Conv(_FINE + 7, _FINE)
        self.fine = Conv(_FINE, _FINE)
        self.leave = Conv(_FINE, 3, gain=0.05)
        with torch.no_grad():
            self.leave.bias[0] = -2.0  # type: ignore[index]  # start close to the draft

    def forward(self, colored: Tensor, draft: Tensor, modulation: Tensor, noise: Tensor) -> Tensor:
        """Paint.

        Parameters
        ----------
        colored, draft
            ``(N, 3, H, W) float in [0, 1]``, H and W multiples of :data:`MULTIPLE`.
        modulation
            ``(N, M)`` from a :class:`StyleEncoder` or a head.
        noise
            ``(N, 1, H, W)`` standard normal: where strokes fall on flat areas.

        Returns
        -------
        Tensor
            ``(N, 3, H, W)``, near [0, 1] but not clamped.
        """
        seen = torch.cat([colored * 2 - 1, draft * 2 - 1, noise], 1)
        h = activate(self.enter(seen))
        at = 0
        for first, second in zip(self.first, self.second, strict=True):
            inner = activate(_modulate(first(h), modulation, at))
            h = h + second(inner) if self.residual else activate(second(inner))
            at += 2 * self.width
        h = torch.cat([_double(self.narrow(h)), _halve(seen)], 1)
        h = activate(_modulate(self.middle(h), modulation, at))
        h = _double(self.leave(activate(self.fine(h))).to(draft.dtype))
        mask, gain, light = torch.sigmoid(h[:, 0:1]), 2 * torch.tanh(h[:, 1:2]), torch.tanh(h[:, 2:3])
        painted: Tensor = draft + mask * (colored - draft) + gain * (draft - box(draft, 2)) + light
        return painted


def _modulate(h: Tensor, modulation: Tensor, at: int) -> Tensor:
    """Scale and shift channels by ``modulation[:, at : at + 2 C]``."""
    channels = h.shape[1]
    scale = modulation[:, at : at + channels, None, None]
    shift = modulation[:, at + channels : at + 2 * channels, None, None]
    return h * (1 + scale) + shift


def _halve(h: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; sums of slices are faster than a pooling layer on a CPU."""
    h = h[:, :, 0::2] + h[:, :, 1::2]
    return 0.25 * (h[..., 0::2] + h[..., 1::2])


def _double(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
