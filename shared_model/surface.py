"""The surface part of a head: how strong paint marks are, and how their strength is spread.

Photos are flat here and busy there; paint is everywhere. A head therefore remembers, for each
Laplacian band of the owner's pictures, two distributions: of local contrast, and of the band's
values. :meth:`Surface.finish` moves a picture's own distributions onto them, band by band, with
monotone maps of bounded slope: first a gain per place (quiet places become as alive as the
painting's quiet places, in their own strokes), then a curve per value and channel (Heeger & Bergen
1995, on Laplacian bands; exact one-dimensional optimal transport). Nothing is moved in space, and
nothing is strengthened more than quiet places are: paint is everywhere, so what is strong in the busy
places of a picture alone (the contours of a print) is not paint, and has no business in a photo's sand.

Light and colors are moved each on its own, as light, red less light and blue less light. A painter breaks color
within one tone, which a photo hardly does: red, green and blue moved one by one have the contrast of a painting and,
at the width of strokes, two thirds of its color.

Paint is everywhere, but not in every tone: paper is left white and dark cloth is hatched. A head also
remembers how strong marks are by the light of their place (:meth:`Surface.strength`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from shared_model.pyramid import LUMA, bands, box, collapse, decompose, luminance, pyramid
from shared_model.quantiles import curve, follow, quantiles, sample

__all__ = ["CONTRASTS", "LIGHTS", "VALUES", "Surface"]

CONTRASTS, VALUES = 33, 129  # quantiles kept per band: of local contrast, and of values per channel
LIGHTS = 17  # tones from black to white at which the strength of marks is kept
_LIGHT_WIDTH, _LIGHT_RADIUS = 0.06, 3  # a tone is a bell curve this wide around the mean of 7 x 7 pixels of its band
_LIGHT_PRIOR = 0.01  # of all pixels: so many with marks of ordinary strength are counted with every tone
_LIVELIEST = 1.5  # most by which a tone's marks count as stronger than others
_RADIUS = 2  # local contrast is taken over a square of 5 x 5 pixels of its band
_LOWEST_GAIN = 0.3
_HIGHEST_GAINS = (3.0, 3.0, 2.5, 1.7, 1.3)  # finest band first; coarse bands hold shapes: no blotches on skin
_QUIET = CONTRASTS // 4  # the quantile of contrast whose gain no place exceeds
_STROKES = slice(1, 4)  # the bands whose marks are as wide as strokes
_MOST_VARIED = 0.05  # deviation of light beyond which quiet places are no even ground broken into strokes
_MOST_MOTTLED = 2.0  # how much more colors may vary from stroke to stroke than light
_APART = 1.44  # what red and blue less light come to, both together, where red, green and blue vary by 1 each
_SLACK = 2.0  # quiet marks of the owner's by which an edge may leave the range of what lies within two pixels


@dataclass(frozen=True)
class Surface:
    """Distributions of the Laplacian bands of an owner's pictures, finest band first.

    Parameters
    ----------
    contrast
        ``(bands, CONTRASTS)`` quantiles of local luminance contrast.
    values
        ``(bands, 3, VALUES)`` quantiles of the band's red, green and blue.
    lights
        ``(bands, LIGHTS)`` strength of the band's marks in places from black to white, over that of all its marks.
    tints
        ``(bands, CONTRASTS)`` quantiles of local contrast in color at equal light.
    colors
        ``(bands, 3, VALUES)`` quantiles of the band's light, red less light and blue less light. Heads of early
        versions have neither of the two: their red, green and blue are moved instead.
    """

    contrast: Tensor
    values: Tensor
    lights: Tensor
    tints: Tensor | None = None
    colors: Tensor | None = None

    @staticmethod
    def of(pictures: Sequence[Tensor], *, count: int = len(_HIGHEST_GAINS)) -> Surface:
        """Read the ``count`` finest bands of pictures, each ``(1, 3, H, W) float in [0, 1]``."""
        details = [bands(picture.float(), count) for picture in pictures]

        def table(read: Callable[[Tensor], Tensor], size: int) -> Tensor:
            rows = [torch.cat([sample(read(detail[i])) for detail in details], -1) for i in range(count)]
            return torch.stack([quantiles(row, size) for row in rows])

        return Surface(
            table(lambda band: _contrast(luminance(band)), CONTRASTS)[:, 0],
            table(lambda band: band[0].flatten(1), VALUES),
            _lights(pictures, details),
            table(lambda band: _contrast(_apart(band)[:, 1:]), CONTRASTS)[:, 0],
            table(lambda band: _apart(band)[0].flatten(1), VALUES),
        )

    def tables(self, prefix: str = "") -> dict[str, Tensor]:
        """Return all tables that there are, by name."""
        every = {prefix + entry.name: getattr(self, entry.name) for entry in fields(Surface)}
        return {name: table for name, table in every.items() if table is not None}

    def to(self, device: torch.device) -> Surface:
        """Return a copy on ``device``."""
        return Surface(**{name: table.to(device) for name, table in self.tables().items()})

    def deviation(self, band: int) -> float:
        """Return the root mean square of a band's values, all channels together."""
        return float(self.values[band].square().mean().sqrt())

    def strength(self, band: int, picture: Tensor) -> Tensor:
        """Return how strong the owner's marks of a band are where it is as light as in ``picture`` at its scale.

        ``(1, 3, H, W)`` to ``(1, 1, H, W)``: root mean square over all channels, from :meth:`deviation` down to next
        to nothing (a drawing's paper) and up to one and a half times.
        """
        light = box(luminance(picture), _LIGHT_RADIUS)
        nodes = self.lights[band][None]
        low, step = torch.zeros_like(nodes[:, :1]), torch.full_like(nodes[:, :1], 1 / (LIGHTS - 1))
        return self.deviation(band) * follow(light.flatten(1), (low, step, nodes)).view_as(light)

    def variety(self) -> float:
        """Return how far light varies from stroke to stroke.

        It is the standard deviation in the owner's quiet places, in the bands that are as wide as a stroke.
        """
        return min(float(self.contrast[_STROKES, _QUIET].square().sum().sqrt()), _MOST_VARIED)

    def mottled(self) -> float | None:
        """Return how far red, green and blue vary from stroke to stroke at equal light, over how far light does.

        In the same places and bands as :meth:`variety`; None: this head was made before colors were remembered.
        """
        if self.tints is None:
            return None
        apart = float(self.tints[_STROKES, _QUIET].square().sum().sqrt()) / _APART
        return min(apart / max(self.variety(), 1e-6), _MOST_MOTTLED)

    def broken(self, picture: Tensor) -> Tensor:
        """Return how far light varies from stroke to stroke where it is as light as in ``picture``.

        ``(1, 3, H, W)`` at half the scale the head was fitted at, to ``(1, 1, H, W)``: :meth:`variety`, as far as the
        owner leaves marks in that tone.
        """
        return self.variety() * self.strength(1, picture) / max(self.deviation(1), 1e-9)

    def finish(self, picture: Tensor) -> Tensor:
        """Give a picture the owner's marks' strength, place by place and value by value.

        Parameters
        ----------
        picture
            ``(1, 3, H, W)``, near [0, 1], at the scale the head was fitted at.

        Returns
        -------
        Tensor
            Same shape, not clamped. What lies below the coarsest band stays as it is, and nothing
            leaves the range of its surroundings by more than a mark: strong edges get no halo.
        """
        count = len(self.contrast)
        details, coarse = decompose(picture, count)
        done = []
        for i, (band, most) in enumerate(zip(details, _HIGHEST_GAINS, strict=False)):
            if self.tints is None or self.colors is None:
                lively, limit = _livened(band, luminance(band), self.contrast[i], most)
                done.append(_moved(lively, self.values[i], limit))
            else:
                parts = _apart(band)
                light, limit = _livened(parts[:, :1], parts[:, :1], self.contrast[i], most)
                color, bound = _livened(parts[:, 1:], parts[:, 1:], self.tints[i], most)
                limits = torch.cat([limit, bound, bound])
                done.append(_together(_moved(torch.cat([light, color], 1), self.colors[i], limits)))
        return self._without_halos(collapse(done, coarse), picture)

    def _without_halos(self, finished: Tensor, picture: Tensor) -> Tensor:
        """Hold a finished picture within the range of what it was made from, nearby, give or take a quiet mark.

        In light and colors apart, or a gray brow on warm skin might turn blue: within the range of red, green and
        blue it may.
        """
        quiet = self.contrast[:3, CONTRASTS // 2].square().sum().sqrt()
        within, slack = picture.clamp(0, 1), _SLACK * quiet
        if self.tints is None:
            return _held(finished, within, slack)
        colors = _SLACK * self.tints[:3, _QUIET].square().sum().sqrt()
        slacks = torch.stack([slack, colors, colors]).view(1, 3, 1, 1)
        return _together(_held(_apart(finished), _apart(within), slacks))


def _lights(pictures: Sequence[Tensor], details: Sequence[Sequence[Tensor]]) -> Tensor:
    """Strength of marks by the light of their place, ``(bands, LIGHTS)``, from pictures and their bands."""
    tones = torch.linspace(0, 1, LIGHTS)[:, None]
    result = []
    for i in range(len(details[0])):
        power = torch.cat([d[i].square().mean(1).flatten() for d in details])
        scaled = (pyramid(picture.float(), i + 1)[-1] for picture in pictures)
        light = torch.cat([box(luminance(picture), _LIGHT_RADIUS).flatten() for picture in scaled])
        power, light = sample(torch.stack([power, light]))
        near = torch.exp(-0.5 * ((light - tones) / _LIGHT_WIDTH) ** 2)
        prior, mean = _LIGHT_PRIOR * light.numel(), power.mean().clamp_min(1e-12)
        result.append(((near @ power / mean + prior) / (near.sum(1) + prior)).sqrt().clamp_max(_LIVELIEST))
    return torch.stack(result)


def _held(finished: Tensor, within: Tensor, slack: Tensor) -> Tensor:
    """Hold values within the range of others, two pixels around, give or take ``slack``."""
    return torch.minimum(torch.maximum(finished, -_highest(-within) - slack), _highest(within) + slack)


def _highest(x: Tensor) -> Tensor:
    """Largest value within two pixels, rows and columns in turn: slices are faster than a pooling layer."""
    for dim in (2, 3):
        size = x.shape[dim]
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, size - 1, 1)
        padded = torch.cat([first, first, x, last, last], dim)
        two = torch.maximum(padded.narrow(dim, 0, size + 3), padded.narrow(dim, 1, size + 3))
        four = torch.maximum(two.narrow(dim, 0, size), two.narrow(dim, 2, size))
        x = torch.maximum(four, padded.narrow(dim, 4, size))
    return x


def _contrast(part: Tensor) -> Tensor:
    """Local root mean square of a band's light or color: ``(1, C, H, W)`` to ``(1, H W)``."""
    return box(part.square().sum(1, keepdim=True), _RADIUS).clamp_min(1e-10).sqrt().flatten(1)


def _livened(band: Tensor, seen: Tensor, owner: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Move the local contrast that is ``seen`` onto the owner's ``(CONTRASTS,)``, place by place.

    Returns
    -------
    tuple
        The band with every place's gain, and the gain that no place exceeds, ``(1, 1)``.
    """
    strength = _contrast(seen)
    own, owner = quantiles(sample(strength), CONTRASTS), owner[None]
    limit = (owner[:, _QUIET : _QUIET + 1] / own[:, _QUIET : _QUIET + 1]).clamp(1.0, most)
    wanted = follow(strength, curve(own, owner))
    gain = torch.minimum((wanted / strength).clamp_min(_LOWEST_GAIN), limit)
    return gain.view(1, 1, *band.shape[-2:]) * band, limit


def _moved(lively: Tensor, owner: Tensor, limits: Tensor) -> Tensor:
    """Move values ``(1, 3, H, W)`` onto the owner's ``(3, VALUES)``, no value further than its limit times itself."""
    rows = lively[0].flatten(1)
    moved = follow(rows, curve(quantiles(sample(rows), VALUES), owner))
    bound = rows.abs() * limits + 1e-3
    return torch.maximum(torch.minimum(moved, bound), -bound).view_as(lively)


def _apart(band: Tensor) -> Tensor:
    """Red, green and blue as light, red less light and blue less light; any ``(N, 3, H, W)``."""
    light = luminance(band)
    return torch.cat([light, band[:, 0:1] - light, band[:, 2:3] - light], 1)


def _together(parts: Tensor) -> Tensor:
    """Undo :func:`_apart`."""
    red, green, blue = LUMA
    light, warm, cool = parts[:, 0:1], parts[:, 1:2], parts[:, 2:3]
    return torch.cat([light + warm, light - (red * warm + blue * cool) / green, light + cool], 1)
