"""Is a head worth its tuning? The same photos painted before and after, side by side, with numbers.

Three ways of painting are compared: the head's *draft* alone, *untuned* (draft and backbone with the
numbers that the backbone reads off the pictures, what ``--style`` gives) and *tuned* (what the owner
uses). A head that was never tuned has no second one.

What they are judged by depends on what there is to compare with:

- **Other pictures of the painter** (``arts``): the score of :mod:`shared_model.metrics`, on pairs of a photo
  and a picture. Pictures that the head was made from would flatter it; :func:`unseen` finds them by the
  small copies that a head keeps.
- **Nothing**: a head holds patches, not pictures, and every draft consists of just these patches, so their
  statistics cannot judge it. What is left is content (photo against painting), and how far the painting's
  colors and contrast are from those that the head remembers of its pictures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.color import ColorStats
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import to_uint8
from shared_model.metrics import IDENTIFIABLE, Painting, score_pair
from shared_model.metrics.content import content_score
from shared_model.provenance import thumbnail
from shared_model.pyramid import resize_like
from shared_model.stylize import Options, check_match, stylize
from shared_model.surface import Surface

__all__ = ["Change", "Evaluation", "Painted", "bootstrap", "distances", "evaluate", "unseen"]

_SAME = 0.03  # mean difference of two small copies below which they show one picture
_DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Painted:
    """One photo, each way of painting it, and what was measured.

    Parameters
    ----------
    photo
        Index of the photo.
    art
        Index of the picture it was judged against; ``None`` if there was none.
    versions
        For each way of painting, ``(1, 3, H, W) float in [0, 1]``.
    scores
        For each way of painting, measure by measure.
    """

    photo: int
    art: int | None
    versions: dict[str, Tensor]
    scores: dict[str, dict[str, float]]

    @property
    def telling(self) -> bool:
        """Whether the photo's texture differs enough from the picture's for the style scores to say something."""
        return all(row.get("identifiability", math.inf) >= IDENTIFIABLE for row in self.scores.values())


@dataclass(frozen=True)
class Change:
    """Mean difference of a measure between two ways, over the same pairs, with a 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero; never with fewer than four pairs, whose interval means nothing."""
        return self.count >= 4 and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Evaluation:
    """All pairs that there was time for.

    Parameters
    ----------
    pairs
        What was painted and measured.
    planned
        How many pairs there would have been.
    """

    pairs: tuple[Painted, ...]
    planned: int

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways of painting, in order: some of ``draft``, ``untuned``, ``tuned``."""
        return tuple(self.pairs[0].scores)

    @property
    def counted(self) -> tuple[Painted, ...]:
        """The pairs whose texture can be told apart, or all if there is none."""
        return tuple(pair for pair in self.pairs if pair.telling) or self.pairs

    def mean(self, way: str, measure: str) -> float:
        """Mean of a measure over the counted pairs."""
        return float(np.mean([pair.scores[way][measure] for pair in self.counted]))

    def interval(self, way: str, measure: str) -> Change:
        """Mean of a measure over the counted pairs with its 95 % bootstrap interval."""
        return bootstrap([pair.scores[way][measure] for pair in self.counted])

    def change(self, measure: str, *, before: str, after: str) -> Change:
        """Paired difference of a measure between two ways over the counted pairs."""
        return bootstrap([pair.scores[after][measure] - pair.scores[before][measure] for pair in self.counted])


def evaluate(
    head: Head,
    photos: Sequence[Tensor],
    arts: Sequence[Tensor],
    *,
    backbone: Backbone,
    options: Options | None = None,
    budget_s: float = 30.0,
    clock: Callable[[], float],
    progress: Callable[[float, str], None] = lambda fraction, word: None,
) -> Evaluation:
    """Paint and measure pairs of photos and pictures until the time is up; one pair at least.

    Parameters
    ----------
    head
        The head.
    photos
        Photos, best such that were not practised on, ``(1, 3, H, W) float in [0, 1]`` at canvas scale.
    arts
        Other pictures of the painter, same layout; none: see the module documentation.
    backbone, options
        As for :func:`shared_model.stylize.stylize`.
    budget_s
        Seconds; a pair that would not fit any more is not begun.
    clock
        Seconds.
    progress
        Called with the share of the work done and a word.

    Raises
    ------
    InputError
        If there is no photo or the budget is no number above 0.
    CompatibilityError
        If head and backbone do not belong together.
    """
    if not photos:
        raise InputError("an evaluation needs at least one photo")
    if not 0 < budget_s <= 24 * 3600:
        raise InputError(f"a budget of {budget_s:g} seconds makes no sense", hint="use 1 to 86400, such as 30")
    check_match(head, backbone)
    began, options = clock(), options or Options()
    plan = _plan(len(photos), len(arts))
    analysed: dict[int, Painting] = {}
    painted: dict[int, dict[str, Tensor]] = {}
    done: list[Painted] = []
    for number, (photo, art) in enumerate(plan):
        used = clock() - began
        if done and used + 1.2 * used / len(done) > budget_s:
            break
        progress(max(number / len(plan), min(1.0, used / budget_s)), f"pair {number + 1}")
        if photo not in painted:
            painted[photo] = _paint(photos[photo], head, backbone, options)
        if art is not None and art not in analysed:
            analysed[art] = Painting.of(to_uint8(arts[art]))
        judge = None if art is None else analysed[art]
        scores = {way: _score(version, photos[photo], judge, head) for way, version in painted[photo].items()}
        done.append(Painted(photo, art, painted[photo], scores))
    progress(1.0, "")
    return Evaluation(tuple(done), len(plan))


def unseen(head: Head, arts: Sequence[Tensor]) -> list[int]:
    """Return the indices of the pictures that the head was not made from, as far as its small copies tell."""
    copies = [copy.float() / 255 for copy in head.thumbnails]

    def known(art: Tensor) -> bool:
        small = thumbnail(art)[None].float() / 255
        return any(
            max(abs(a - b) for a, b in zip(small.shape[-2:], copy.shape[-2:], strict=True)) <= 2  # rounding
            and float((resize_like(small, copy[None]) - copy).abs().mean()) < _SAME
            for copy in copies
        )

    return [index for index, art in enumerate(arts) if not known(art)]


def distances(picture: Tensor, head: Head) -> dict[str, float]:
    """How far a painting ``(1, 3, H, W)`` is from what a head remembers of its pictures; 0 is equal.

    Returns
    -------
    dict
        ``color_distance``: Wasserstein-2 distance of the colors as Gaussians (Dowson & Landau 1982), in units of
        the 0 to 1 range. ``contrast_distance``: mean over the Laplacian bands of the absolute log2 ratio of
        their standard deviations.
    """
    own, theirs = ColorStats.of([picture]), head.color
    root = _root(own.covariance.double())
    middle = _root(root @ theirs.covariance.double() @ root)
    spread = torch.trace(own.covariance.double() + theirs.covariance.double() - 2 * middle).clamp_min(0)
    color = (spread + (own.mean - theirs.mean).double().square().sum()).sqrt()
    surface = Surface.of([picture], count=len(head.surface.contrast))
    contrast = [
        abs(math.log2((surface.deviation(i) + 1e-4) / (head.surface.deviation(i) + 1e-4)))
        for i in range(len(surface.contrast))
    ]
    return {"color_distance": float(color), "contrast_distance": sum(contrast) / len(contrast)}


def _plan(photos: int, arts: int) -> list[tuple[int, int | None]]:
    """Order all pairs so that an early end has used as many different photos and pictures as possible."""
    if arts == 0:
        return [(photo, None) for photo in range(photos)]
    shifted = itertools.product(range(arts), range(photos))
    return [(photo, (photo + shift) % arts) for shift, photo in shifted]


def _paint(photo: Tensor, head: Head, backbone: Backbone, options: Options) -> dict[str, Tensor]:
    versions = {"draft": head.draft(photo, seed=options.seed, detail=options.detail).painted}
    if head.change is not None:
        before = replace(head, change=None)
        versions["untuned"] = stylize(photo, head=before, backbone=backbone, options=options)
    versions["tuned"] = stylize(photo, head=head, backbone=backbone, options=options)
    return versions


def _score(version: Tensor, photo: Tensor, painting: Painting | None, head: Head) -> dict[str, float]:
    if painting is not None:
        return score_pair(to_uint8(version), to_uint8(photo), painting)
    with torch.no_grad():
        return content_score(photo, version) | distances(version, head)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    return result


def bootstrap(values: Sequence[float]) -> Change:
    """Return the mean of values with its 95 % bootstrap interval; the same values always give the same."""
    array = np.array(values)
    picks = np.random.default_rng(0).integers(0, len(array), size=(_DRAWS, len(array)))
    low, high = np.quantile(array[picks].mean(1), [0.025, 0.975])
    return Change(float(array.mean()), float(low), float(high), len(array))
