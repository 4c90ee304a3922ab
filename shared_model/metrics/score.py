"""The score of one stylised picture, and of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from shared_model.errors import InputError
from shared_model.metrics.artefacts import checker_peak, clipped_share, copy_correlation, seam_jump
from shared_model.metrics.content import content_score
from shared_model.metrics.filters import luminance, match_histogram
from shared_model.metrics.style import (
    Signature,
    color_signature,
    distance,
    fraction_closed,
    joint_signature,
    self_distance,
    spread,
    texture_signature,
    trivial_edits,
)

__all__ = [
    "IDENTIFIABLE",
    "SHORT_SIDE",
    "Distances",
    "Painting",
    "expected_share",
    "photo_distances",
    "score_pair",
    "summarize",
]

SHORT_SIDE = 512  # everything is compared at this short side, in pixels
IDENTIFIABLE = 2.0  # below this the photo's texture cannot be told from the painting's
_ERROR = 0.15  # standard error of a difference of two texture distances, in units of the painting's own variation
COPY_FREE, COPY_FULL = 0.20, 0.50  # correlation with the painting that is normal / that voids the score

Bytes = NDArray[np.uint8]
Distances = tuple[float, float, float]  # texture, joint, color


def _tensor(image: Image.Image) -> Tensor:
    array = np.asarray(image, dtype=np.float32) / 255.0
    return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()


def _at_short_side(image: Image.Image) -> Image.Image:
    scale = SHORT_SIDE / min(image.size)
    if abs(scale - 1.0) < 1e-6:
        return image
    size = (max(SHORT_SIDE, round(image.width * scale)), max(SHORT_SIDE, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Painting:
    """Everything about a painting that depends neither on the photo nor on the output."""

    image: Tensor
    luma: Tensor
    texture: Signature
    joint: Signature
    color: Signature
    floors: tuple[float, float, float]

    @staticmethod
    @torch.no_grad()
    def of(painting: Bytes) -> Painting:
        """Analyse a painting ``(H, W, 3) uint8``; about 2 s on one core."""
        image = _tensor(_at_short_side(Image.fromarray(painting)))
        luma = luminance(image)
        texture, joint, color = texture_signature(luma), joint_signature(image), color_signature(image)
        floors = (
            self_distance(texture_signature, luma, spread(texture)),
            self_distance(joint_signature, image, spread(joint)),
            self_distance(color_signature, image, spread(color)),
        )
        return Painting(image, luma, texture, joint, color, floors)

    def _texture_distance(self, luma: Tensor) -> float:
        """Texture distance after the tone curve has been made equal."""
        return distance(texture_signature(match_histogram(luma, self.luma)), self.texture, spread(self.texture))

    def distances(self, rgb: Tensor, *, photo: bool) -> Distances:
        """Texture, joint and color distance of ``(1, 3, H, W)``; a photo's texture is that of its best trivial edit."""
        luma = luminance(rgb)
        return (
            min(self._texture_distance(edit) for edit in (trivial_edits(luma) if photo else [luma])),
            distance(joint_signature(rgb), self.joint, spread(self.joint)),
            distance(color_signature(rgb), self.color, spread(self.color)),
        )


def _harmonic(a: float, b: float) -> float:
    """Harmonic mean, 0 if either is 0."""
    return 2 * a * b / (a + b) if a > 0 and b > 0 else 0.0


def _copied(correlation: float, free: float) -> float:
    """Return how much of a painting is seen in an output, 0 to 1, where ``free`` correlation with it is normal."""
    return min(1.0, max(0.0, (correlation - free) / max(COPY_FULL - free, 1e-9)))


def expected_share(share: float, deviation: float) -> float:
    """Return the mean of a share measured with a normal error, each value clipped to [0, 1]."""
    if deviation <= 0:
        return min(1.0, max(0.0, share))
    low, high = (NormalDist().cdf((end - share) / deviation) for end in (0.0, 1.0))
    bend = NormalDist().pdf(share / deviation) - NormalDist().pdf((1 - share) / deviation)
    return max(0.0, share * (high - low) + deviation * bend + (1 - high))  # far below 0 rounding has the last word


@torch.no_grad()
def photo_distances(photo: Bytes, painting: Painting, *, like: Bytes) -> Distances:
    """Return how far a photo is from a painting, at the size at which the output ``like`` is compared.

    It costs most of a score and depends on the output's size only, so whoever scores several outputs
    of one pair keeps it.
    """
    size = _at_short_side(Image.fromarray(like)).size
    sized = Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)
    return painting.distances(_tensor(sized), photo=True)


@torch.no_grad()
def score_pair(output: Bytes, photo: Bytes, painting: Painting, *, before: Distances | None = None) -> dict[str, float]:
    """Score one stylised picture; about 1.5 s on one core, 0.5 s with ``before``.

    Parameters
    ----------
    output, photo
        ``(H, W, 3) uint8``; sizes may differ, aspect ratios may not.
    painting
        The analysed painting.
    before
        What :func:`photo_distances` returned for this pair and size of output.

    Returns
    -------
    dict
        See the package documentation; ``identifiability`` below :data:`IDENTIFIABLE` means that the
        pair says nothing about texture.

    Raises
    ------
    InputError
        If the aspect ratios differ by more than 5 %.
    """
    raw, original = Image.fromarray(output), Image.fromarray(photo)
    if abs(math.log((raw.width / raw.height) / (original.width / original.height))) > 0.05:
        raise InputError("output and photo have different aspect ratios")
    sized = _at_short_side(raw)
    ours, theirs = _tensor(sized), _tensor(original.resize(sized.size, Image.Resampling.LANCZOS))
    before = before or painting.distances(theirs, photo=True)
    after = painting.distances(ours, photo=False)
    texture, joint, color = (fraction_closed(p, o, f) for p, o, f in zip(before, after, painting.floors, strict=True))
    parts = [min(1.0, max(0.0, value)) for value in (texture, joint, color)]
    style = float(np.prod(parts)) ** (1 / 3)
    identifiability = before[0] / painting.floors[0]
    # The scale of fraction_closed in units of the painting's own variation: what can be told apart at all.
    told = identifiability - min(1.0, 0.6 * identifiability)
    read = expected_share(texture, _ERROR / max(told, 1e-9))
    style2 = (read * parts[1] * parts[2]) ** (1 / 3)
    correlation = copy_correlation(ours, painting.image)
    copied = _copied(correlation, COPY_FREE)
    chance = copy_correlation(theirs, painting.image) if copied > 0 else 0.0  # a photo may look like it by itself
    full, result = _tensor(raw), content_score(theirs, ours)
    return result | {
        "style": style,
        "color": color,
        "texture": texture,
        "joint": joint,
        "identifiability": identifiability,
        "copy": copied,
        "copy_correlation": correlation,
        "headline": _harmonic(result["content"], style) * (1 - copied),
        "headline2": _harmonic(result["content"], style2) * (1 - _copied(correlation, max(COPY_FREE, chance))),
        "clipped": max(0.0, clipped_share(full) - clipped_share(painting.image)),
        "checker_db": max(0.0, checker_peak(full) - checker_peak(painting.image)),
        "seam": max(0.0, seam_jump(full) - seam_jump(theirs)),
    }


def summarize(
    rows: Sequence[dict[str, float]], *, cut: float = IDENTIFIABLE, draws: int = 2000
) -> dict[str, tuple[float, float, float]]:
    """Return (mean, low, high) of every number: 95 % bootstrap over the rows that pass ``cut``, or all if none does."""
    kept = [row for row in rows if row["identifiability"] >= cut] or list(rows)
    picks = np.random.default_rng(0).integers(0, len(kept), size=(draws, len(kept)))
    summary = {}
    for key in kept[0]:
        values = np.array([row[key] for row in kept])
        low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
        summary[key] = (float(values.mean()), float(low), float(high))
    return summary
