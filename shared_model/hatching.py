"""Tones made of marks: how an owner with one ink shades, and a photo hatched the same way.

Woodcuts, engravings, pencil and chalk have no grays of their own: a tone is how much of a place is ink. A head of such
pictures remembers which lights its owner sets where a place is that light as a whole, from paper left white to ink
all over. A photo's tone then says which of these are due there, and lines drawn out along its shapes say where each of
them goes: halftoning (Ulichney 1987) with strokes in place of a screen. Lines are noise that is drawn out along the
shapes (line integral convolution; Cabral & Leedom 1993) and made crisp across them, twice (as Weiskopf 2009 iterates
it). Outlines come last (:func:`shared_model.lines.contours`), as dark as the owner's darkest marks in that tone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from shared_model.chance import doubled, scattered
from shared_model.color import ColorStats
from shared_model.config import HeadConfig
from shared_model.lines import blur, contours, mean_along, traced
from shared_model.pyramid import box, luminance
from shared_model.quantiles import curve, follow, quantiles, sample
from shared_model.surface import Surface

__all__ = ["INKS", "MARKS", "TONES", "Hatching", "from_afar", "hatched"]

TONES, MARKS, INKS = 17, 65, 17  # tones from dark to light, quantiles of light for each, and lights with a color
_AROUND = 4  # three boxes of this radius, in pixels: what a place is as a whole
_NEAR, _LEAST = 0.02, 0.005  # a tone is all places within this of it, and at least this share of all
_INK_WIDTH = 0.04  # a light's color is the mean under a bell curve this wide
_PIXELS = 200_000  # of all pictures that are looked at
_CRISPER, _PIVOT = 1.3, 0.35  # tones are spread by so much around this one: white is left white, faces are bright
_RATIO = 1.6  # of the two blurs between which lines lie
_ROUNDS, _MOST = 2, 1.5  # how often lines are drawn out and made crisp; deviations at which they are cut in between
_GRAIN = 0.5  # deviation of the blur that grain has, in pixels
_LENGTH = 5  # steps of two pixels that a line is drawn out, both ways
_RANKS = 257
_GRAY = 0.5  # grayness from which on pictures count as made with one ink
# A line's width in pixels by the share of the finest of three bands in all three, as measured on hatched photos.
_MIDDLE, _FALL, _WIDTHS = 0.425, 5.6, (0.7, 2.5)
_CALM = 0.5  # how much of a photo's grain is flattened, of what a head flattens otherwise: eyes are small
# Pencil and chalk, which are soft, have grain, of what a head breaks flat areas up by otherwise, and are held to the
# strength of the owner's marks, of what other heads are; wood and copper have neither.
_ROUGH, _SOFT = 1.5, 0.6
_POINTED = 0.35  # how much finer their lines are than their bands say, which hold grain and shading, too
_DARKENED = 0.15  # how much darker an outline makes the place that it lies in
_OUTLINES = 0.05  # of the pixels of a hatched photo


@dataclass(frozen=True)
class Hatching:
    """What an owner's tones are made of.

    Parameters
    ----------
    marks
        ``(TONES, MARKS)`` quantiles of light in places that are 0, 1/16, ... 1 light as a whole.
    inks
        ``(INKS, 3)`` the color of each light, 0, 1/16, ... 1: red, green and blue in [0, 1].
    """

    marks: Tensor
    inks: Tensor

    @staticmethod
    def of(pictures: Sequence[Tensor]) -> Hatching:
        """Read it off pictures, each ``(1, 3, H, W) float in [0, 1]``."""
        rows = torch.cat([_looked_at(picture) for picture in pictures], 1)
        rows = rows[:, :: -(-rows.shape[1] // _PIXELS)]
        light, around, colors = rows[0], rows[1], rows[2:]
        order = around.argsort()
        light_by_place, place = light[order], around[order]
        least = max(1, round(_LEAST * len(place)))
        marks = []
        for tone in torch.linspace(0, 1, TONES).tolist():
            low, high = (int(torch.searchsorted(place, tone + reach)) for reach in (-_NEAR, _NEAR))
            if high - low < least:
                low = min(max(0, (low + high - least) // 2), len(place) - least)
                high = low + least
            marks.append(quantiles(light_by_place[None, low:high], MARKS)[0])
        near = torch.exp(-0.5 * ((light - torch.linspace(0, 1, INKS)[:, None]) / _INK_WIDTH) ** 2)
        share = near.sum(1, keepdim=True)
        inks = (near @ colors.T + 1e-3 * colors.mean(1)) / (share + 1e-3)
        return Hatching(torch.stack(marks), inks)

    def purity(self) -> float:
        """Return 1 where every mark is either ink or paper (a woodcut), less where it may be in between (pencil)."""
        means = self.marks.mean(1)
        low, high = self.marks.min(), self.marks.max()
        place = (means - low) / (high - low).clamp_min(1e-6)
        between = (place > 0.25) & (place < 0.75)
        if not bool(between.any()):
            return 0.0
        spread = self.marks.var(1, unbiased=False) / ((means - low) * (high - means)).clamp_min(1e-6)
        return min(1.0, float(spread[between].mean()))

    def tables(self, prefix: str = "") -> dict[str, Tensor]:
        """Return all tables by name."""
        return {prefix + entry.name: getattr(self, entry.name) for entry in fields(Hatching)}

    def to(self, device: torch.device) -> Hatching:
        """Return a copy on ``device``."""
        return Hatching(**{name: table.to(device) for name, table in self.tables().items()})

    @torch.no_grad()
    def draw(
        self,
        picture: Tensor,
        along: Tensor,
        *,
        width: float,
        roughness: float,
        outlines: float,
        generator: torch.Generator,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hatch a picture.

        Parameters
        ----------
        picture
            ``(1, 3, H, W) float in [0, 1]``: only how light it is counts.
        along
            Where lines run: :func:`shared_model.brush.directions` of it.
        width
            Half a line's width in pixels.
        roughness
            How much grain lines have, as from a paper's tooth: 0 none.
        outlines
            Share of the pixels that lie on outlines.
        generator
            Where lines lie.
        places
            ``(1, 2, H/2, W/2)``: where in a scene the pixels lie, down and across, so that lines go with it.

        Returns
        -------
        Tensor
            Same shape and range.
        """
        light = luminance(picture)
        trail = traced(along, picture, _LENGTH)
        noise = scattered(picture, 1, generator=generator, places=doubled(places, picture))
        lines = noise
        for turn in range(_ROUNDS):
            lines = mean_along(lines, trail)
            lines = blur(lines, width) - blur(lines, _RATIO * width)
            lines = lines / lines.square().mean().sqrt().clamp_min(1e-6)
            lines = lines.clamp(-_MOST, _MOST) if turn < _ROUNDS - 1 else lines
        grain = blur(noise, _GRAIN)
        lines = (lines + roughness * grain / grain.square().mean().sqrt().clamp_min(1e-6)).flatten(1)
        ranks = torch.linspace(0, MARKS - 1, _RANKS, device=picture.device)[None]
        rank = follow(lines, curve(quantiles(sample(lines), _RANKS), ranks))[0]
        before = torch.ones(TONES, TONES, device=picture.device).tril() > 0
        means = torch.where(before, self.marks.mean(1), 0.0).amax(1)[None]  # of each tone; none below an earlier one
        middle = torch.lerp(means[:, :1], means[:, -1:], _PIVOT)
        wanted = middle + _CRISPER * (light.flatten(1) - middle)
        rows = torch.arange(TONES, device=picture.device, dtype=light.dtype)[None]
        tone = follow(wanted, curve(means, rows))[0]
        drawn = self._looked_up(tone, rank).view_as(light)
        if outlines > 0:
            darkest = self._looked_up(tone - _DARKENED * (TONES - 1), torch.ones_like(rank)).view_as(light)
            ink = contours(light, trail, share=outlines)
            drawn = torch.minimum(drawn, torch.lerp(drawn, darkest, ink))
        return self._inked(drawn)

    def _looked_up(self, tone: Tensor, rank: Tensor) -> Tensor:
        """Return :attr:`marks` between rows and columns, each ``(n,)``: bilinear."""
        row, column = tone.clamp(0, TONES - 1 - 1e-3), rank.clamp(0, MARKS - 1 - 1e-3)
        top, left = row.long().clamp(0, TONES - 2), column.long().clamp(0, MARKS - 2)
        down, across = row - top, column - left
        table, place = self.marks.flatten(), top * MARKS + left
        upper = torch.lerp(table.index_select(0, place), table.index_select(0, place + 1), across)
        place = place + MARKS
        lower = torch.lerp(table.index_select(0, place), table.index_select(0, place + 1), across)
        return torch.lerp(upper, lower, down)

    def _inked(self, light: Tensor) -> Tensor:
        """Give lights ``(1, 1, H, W)`` the owner's colors, ``(1, 3, H, W)``; they stay as light as they are."""
        rows = light[0].flatten(1).expand(3, -1)
        nodes = self.inks.T.contiguous()
        low, step = torch.zeros_like(nodes[:, :1]), torch.full_like(nodes[:, :1], 1 / (INKS - 1))
        colors = follow(rows, (low, step, nodes)).view(1, 3, *light.shape[-2:])
        return (colors + (light - luminance(colors))).clamp(0, 1)


def hatched(
    config: HeadConfig, color: ColorStats, surface: Surface, pictures: Sequence[Tensor]
) -> tuple[HeadConfig, Hatching | None]:
    """Return configuration and marks of a head that hatches, if its owner's pictures are made with one ink.

    Pictures in color have marks in color, and line drawings on bright paper are drawn (:mod:`shared_model.lines`); who
    asks for areas, washes or strokes taken over whole gets these: the configuration as it is, and no marks.
    """
    if config.hatch > 0:
        return config, Hatching.of(pictures)
    if config.areas > 0 or config.wash > 0 or config.softness > 0 or color.ink_share() > 0 or color.grayness() < _GRAY:
        return config, None
    hatching = Hatching.of(pictures)
    finest, *broader = (surface.deviation(band) for band in range(3))
    share = finest / max(finest + sum(broader), 1e-6)
    low, high = _WIDTHS
    soft = 1 - hatching.purity()
    width = min(high, max(low, (1 - _POINTED * soft) * math.exp(-_FALL * (share - _MIDDLE))))
    changed = replace(
        config,
        brush=0,
        hatch=round(width, 2),
        outlines=_OUTLINES,
        levels=1,
        roughness=round(_ROUGH * soft * config.roughness, 2),
        bias=0.0,
        hand=0.3,
        structure=1.0,
        abstraction=_CALM * config.abstraction,
        surface=round(_SOFT * soft, 2),
    )
    return changed, hatching


def from_afar(picture: Tensor) -> Tensor:
    """Return a picture ``(1, C, H, W)`` with every place as it is as a whole: its tones, without the marks."""
    for _ in range(3):
        picture = box(picture, _AROUND)
    return picture


def _looked_at(picture: Tensor) -> Tensor:
    """Light, light all around, and color of every pixel: ``(5, H W)``."""
    light = luminance(picture)
    return torch.cat([light, from_afar(light), picture], 1)[0].flatten(1)
