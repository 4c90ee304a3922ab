"""Why a painting looks as it does: which of the owner's strokes lie where, and what the backbone changed.

A head replaces every patch of a photo by one of the owner's, so the look-up itself is the explanation:
nothing is approximated or attributed afterwards (as saliency maps of networks must). The map shows the
finest level, whose patches are the pixels of the draft. What it leaves out: the draft's contrast is
raised and the photo's own detail let through after the look-up, and jitter moves a patch by up to its
grid's step, so borders are exact to two or three pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.dictionary import Dictionary
from shared_model.generator import MULTIPLE
from shared_model.head import Draft, Head
from shared_model.stylize import Options, canvas_size, stylize

__all__ = ["Explanation", "Use", "explain"]


@dataclass(frozen=True)
class Use:
    """How often one patch was used.

    Parameters
    ----------
    patch
        Its index in the finest dictionary.
    share
        Share of all look-ups that chose it, in (0, 1].
    picture, row, column
        Where it was cut from (picture counted from 0; pixels on a canvas whose short side is the head's
        ``canvas_px``); -1 where the head does not remember.
    """

    patch: int
    share: float
    picture: int
    row: int
    column: int


@dataclass(frozen=True)
class Explanation:
    """One painting, taken apart, at canvas scale (``H`` and ``W`` are the canvas's).

    Parameters
    ----------
    photo, draft, result
        ``(1, 3, H, W) float in [0, 1]``: the photo, what the head made of it, and what the backbone
        made of that.
    picture
        ``(H, W) int64``: the picture that each pixel's patch was cut from, -1 if unknown.
    place
        ``(H, W, 2) float in [0, 1]``: where in that picture (down, across); 0 if unknown.
    change
        ``(H, W) float``: mean over the channels of ``|result - draft|``.
    shares
        For each level, finest first, the share of look-ups that chose each picture; empty if unknown.
    uses
        The patches of the finest level that were used, most used first.
    used
        For each level, finest first: how many of its patches were used, and how many it has.
    """

    photo: Tensor
    draft: Tensor
    result: Tensor
    picture: Tensor
    place: Tensor
    change: Tensor
    shares: tuple[tuple[float, ...], ...]
    uses: tuple[Use, ...]
    used: tuple[tuple[int, int], ...]

    @property
    def remembers(self) -> bool:
        """Whether the head knows where its patches came from."""
        return bool(self.shares)

    def facts(self, *, patches: int = 10) -> dict[str, object]:
        """Return the numbers as plain JSON values, with the ``patches`` most used ones."""
        change = self.change.flatten()
        return {
            "remembers": self.remembers,
            "pictures": [
                {
                    "picture": index + 1,
                    "share": round(share, 4),
                    "share_by_level": [round(s[index], 4) for s in self.shares],
                }
                for index, share in enumerate(self.shares[0] if self.shares else ())
            ],
            "patches": [
                {"share": round(use.share, 5)}
                | ({"picture": use.picture + 1, "row": use.row, "column": use.column} if use.picture >= 0 else {})
                for use in self.uses[:patches]
            ],
            "levels": [{"used": used, "patches": count} for used, count in self.used],
            "change": {
                "mean": round(float(change.mean()), 5),
                "p95": round(float(change.quantile(0.95)), 5),
                "max": round(float(change.max()), 5),
            },
        }


@torch.no_grad()
def explain(photo: Tensor, *, head: Head, backbone: Backbone, options: Options | None = None) -> Explanation:
    """Paint a photo at canvas scale and take the painting apart.

    Parameters
    ----------
    photo
        ``(1, 3, H, W) float in [0, 1]``, any size.
    head, backbone
        As for :func:`shared_model.stylize.stylize`.
    options
        Seed and detail are followed. Strength and keep_color are not: what is explained is the full painting.

    Raises
    ------
    CompatibilityError
        If head and backbone do not belong together.
    """
    options = options or Options()
    size = canvas_size(photo, head.config.canvas_px)
    if tuple(photo.shape[-2:]) == size:
        canvas = photo
    else:
        canvas = F.interpolate(photo, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    result = stylize(canvas, head=head, backbone=backbone, options=Options(seed=options.seed, detail=options.detail))
    padded = F.pad(canvas, (0, -size[1] % MULTIPLE, 0, -size[0] % MULTIPLE), mode="replicate")
    draft = head.draft(padded, seed=options.seed, detail=options.detail)
    painted = draft.painted[:, :, : size[0], : size[1]]
    picture, place = _sources(head, draft, size)
    return Explanation(
        photo=canvas,
        draft=painted,
        result=result,
        picture=picture,
        place=place,
        change=(result - painted).abs().mean(1)[0],
        shares=_shares(head, draft),
        uses=_uses(head.levels[0], draft.choices[0]),
        used=tuple(
            (int(c.unique().numel()), len(level.price)) for level, c in zip(head.levels, draft.choices, strict=True)
        ),
    )


def _sources(head: Head, draft: Draft, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return picture and place of the patch whose middle is nearest to each pixel."""
    level, choices = head.levels[0], draft.choices[0]
    if level.origin is None:
        return torch.full(size, -1), torch.zeros(*size, 2)
    rows, columns = (
        _nearest_query(length, whole, count, level.side)
        for length, whole, count in zip(size, draft.painted.shape[-2:], choices.shape, strict=True)
    )
    origin = level.origin[choices[rows.to(choices.device)][:, columns.to(choices.device)]].long()
    picture = origin[..., 0]
    extent = _extents(head).to(picture.device)[picture]
    place = (origin[..., 1:] + (level.side - 1) / 2) / extent
    return picture, place.clamp(0, 1)


def _nearest_query(length: int, whole: int, count: int, side: int) -> Tensor:
    """Return, for each of ``length`` pixels, the index of the query whose patch is centered nearest.

    Queries lie ``stride`` apart, from ``side - 1`` pixels before the picture to its end
    (:meth:`shared_model.dictionary.Dictionary.repaint`); the stride follows from their number.
    """
    strides = [s for s in range(1, side + 1) if -(-(whole + side - 1) // s) + 1 == count]
    stride = strides[len(strides) // 2] if strides else max(1, round((whole + side - 1) / max(1, count - 1)))
    middle = (torch.arange(length) + (side - 1) / 2 - (stride - 1) / 2) / stride
    return middle.round().long().clamp(0, count - 1)


def _extents(head: Head) -> Tensor:
    """Height and width of every picture at canvas scale: ``(images, 2)``, from the shape of its small copy."""
    if not head.thumbnails:
        furthest = head.levels[0].origin
        assert furthest is not None
        reach = (furthest[:, 1:].amax(0) + head.levels[0].side).float()
        return reach.expand(head.images, 2)
    shapes = torch.tensor([copy.shape[-2:] for copy in head.thumbnails], dtype=torch.float32)
    return shapes * head.config.canvas_px / shapes.amin(1, keepdim=True)


def _shares(head: Head, draft: Draft) -> tuple[tuple[float, ...], ...]:
    found = []
    for level, choices in zip(head.levels, draft.choices, strict=True):
        if level.origin is None:
            return ()
        counts = torch.bincount(level.origin[choices.flatten()][:, 0].long(), minlength=head.images)
        found.append(tuple((counts / counts.sum()).tolist()))
    return tuple(found)


def _uses(level: Dictionary, choices: Tensor) -> tuple[Use, ...]:
    counts = torch.bincount(choices.flatten(), minlength=len(level.price))
    total = int(counts.sum())
    order = [index for index in counts.argsort(descending=True, stable=True).tolist() if counts[index]]
    origin = torch.full((len(level.price), 3), -1) if level.origin is None else level.origin
    places = origin.tolist()
    return tuple(Use(index, int(counts[index]) / total, *places[index]) for index in order)
