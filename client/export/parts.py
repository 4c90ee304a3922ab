"""The two halves of a painting as modules that take a canvas of any size: draft, then finish.

Between them lies only a crop (a canvas is padded to a multiple of four pixels for the backbone), which
:mod:`client.export.graph` puts in. Everything that paints is called, not copied, from :mod:`shared_model`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from client.export.draws import Draws
from client.export.lowering import Lowering, Marks, Palette, Patches, as_tensor
from shared_model.backbone import Backbone
from shared_model.color import mapping
from shared_model.dabs import course, dabs, drawn, emphatic, fading, share
from shared_model.hatching import Hatching
from shared_model.head import Head
from shared_model.own_hand import with_change
from shared_model.pyramid import luminance, resize_like
from shared_model.stylize import Options
from shared_model.surface import Surface

__all__ = ["Drafting", "Finishing"]


class _WithHead(nn.Module):
    """Holds a head's numbers as buffers, and makes a head of them that can be exported."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self._head = head
        self._marks = Marks.known(head.surface)
        color = head.color
        self._plain = color.share, color.vivid, color.ink_share(), color.grayness(), color.colorfulness()
        for name in ("mean", "covariance", "axes", "tones"):
            self.register_buffer(f"color_{name}", getattr(head.color, name))
        self.register_buffer("mottling", color.mottling(own=head.surface.tints is not None))
        for name, table in head.surface.tables("surface_").items():
            self.register_buffer(name, table)
        hatching = {} if head.hatching is None else head.hatching.tables("hatching_")
        for name, table in hatching.items():
            self.register_buffer(name, table)
        for i, level in enumerate(head.levels):
            for name in ("patches", "center", "basis", "price"):
                self.register_buffer(f"level{i}_{name}", getattr(level, name))
        self.register_buffer("modulation", head.modulation)

    def head(self) -> Head:
        """Return the head with its numbers taken from the buffers."""
        buffer = self.get_buffer
        mean, covariance, axes, tones = (buffer(f"color_{name}") for name in ("mean", "covariance", "axes", "tones"))
        color = Palette(mean, covariance, axes, tones, *self._plain, buffer("mottling"))
        of = Surface(**{name: buffer(f"surface_{name}") for name in self._head.surface.tables()})
        surface = Marks(of.contrast, of.values, of.lights, of.tints, of.colors, *self._marks)
        levels = tuple(
            Patches(*(buffer(f"level{i}_{name}") for name in ("patches", "center", "basis", "price")))
            for i in range(len(self._head.levels))
        )
        hatching = self._head.hatching
        if hatching is not None:
            hatching = Hatching(buffer("hatching_marks"), buffer("hatching_inks"))
        return replace(
            self._head,
            color=color,
            surface=surface,
            levels=levels,
            modulation=buffer("modulation"),
            change=None,
            hatching=hatching,
        )


class Drafting(_WithHead):
    """Canvas in, the backbone's painting out."""

    def __init__(self, head: Head, *, backbone: Backbone, detail: float) -> None:
        super().__init__(head)
        self.generator = with_change(backbone.generator, head.change)
        self._detail = detail

    def forward(self, canvas: Tensor, seed: Tensor) -> Tensor:
        """Paint a canvas ``(1, 3, 4 h, 4 w)`` with the strokes of ``seed () int64``; not clamped."""
        with torch.no_grad(), Lowering(), Draws(seed):
            head = self.head()
            draft = head.draft(canvas, detail=self._detail)
            noise = torch.randn(1, 1, *canvas.shape[-2:])
            painted = self.generator(draft.colored, draft.painted, head.modulation[None], noise)
            return torch.lerp(draft.painted, painted, head.config.hand)


class Finishing(_WithHead):
    """The painting at canvas scale in, the painting at the photo's size out."""

    def __init__(self, head: Head, *, options: Options) -> None:
        super().__init__(head)
        self._keep_color = options.keep_color
        self._share = share(head.config, detail=options.detail)

    def forward(self, painted: Tensor, canvas: Tensor, photo: Tensor, fits: Tensor, strength: Tensor) -> Tensor:
        """Give a painting the head's marks and the photo's size.

        Parameters
        ----------
        painted, canvas
            ``(1, 3, h, w)``: from :class:`Drafting`, cropped, and what it was given.
        photo
            ``(1, 3, H, W)``.
        fits
            ``() bool``: the photo has no more pixels than the canvas.
        strength
            ``() float32``: 0 leaves the photo, 1 paints in full.
        """
        with torch.no_grad(), Lowering():
            head = self.head()
            painted = head.complete(painted)
            recolor = mapping(canvas, head.color)
            scale = as_tensor(photo.shape[2], photo).double() / as_tensor(canvas.shape[2], photo)
            amount = self._share * fading(scale).float()
            if head.config.graphic:
                enlarged = _resize(painted, photo)
            else:
                enlarged = recolor(photo) + _resize(emphatic(painted, amount) - recolor(canvas), photo)
            if self._share > 0:
                dabbed = dabs(enlarged, resize_like(course(painted), photo), scale)
                if not head.config.graphic:
                    amount = amount * (1 - resize_like(drawn(photo, canvas), photo))
                enlarged = torch.lerp(enlarged, dabbed, amount)
            result = torch.where(fits, _resize(painted, photo).clamp(0, 1), enlarged)
            if self._keep_color:
                result = photo + (luminance(result) - luminance(photo))
            return (photo + strength * (result - photo)).clamp(0, 1)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
