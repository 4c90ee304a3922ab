"""Several heads as one: each drafts, the drafts are laid over one another, one hand finishes them.

A :class:`Mixed` head paints like any other head, in still pictures and clips; it costs one draft per head and is
never stored, only its recipe is. Averaging two drafts weakens the strokes of both, so the mixed
:class:`shared_model.surface.Surface` gives them back the strength that lies between the heads' own (quantiles
averaged one by one: the barycenter in one dimension). Putting the patches of all heads into one dictionary
instead was tried and left: places filled by one head end with hard borders at places filled by another, and single
foreign strokes stand about like specks (docs/heads.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from shared_model.color import ColorStats, transfer
from shared_model.config import HeadConfig
from shared_model.errors import CompatibilityError, InputError
from shared_model.head import Draft, Head
from shared_model.surface import Surface

__all__ = ["MAX_HEADS", "Mixed", "mix", "shares"]

MAX_HEADS = 8
_FLOOR = 3e-4  # the ridge of shared_model.color: single-colored pictures stay finite


@dataclass(frozen=True)
class Mixed(Head):
    """Heads that paint together. Build with :func:`mix`.

    Parameters
    ----------
    parts
        The heads, each with a share above 0.
    shares
        Their shares; they add up to 1.
    """

    parts: tuple[Head, ...] = field(default=(), repr=False)
    shares: tuple[float, ...] = ()

    def to(self, device: torch.device | str) -> Mixed:
        """Return a copy whose parts lie on ``device``."""
        return self.each(lambda part: part.to(device))

    def each(self, change: Callable[[Head], Head]) -> Mixed:
        """Return the mix of the changed parts, in the same shares."""
        return _mixed([change(part) for part in self.parts], self.shares, name=self.name)

    def colored(self, photo: Tensor) -> Tensor:
        """Return what a draft follows: between the parts' palettes; see :meth:`shared_model.head.Head.colored`."""
        return _mean([part.colored(photo) for part in self.parts], self.shares)

    @torch.no_grad()
    def draft(self, photo: Tensor, *, seed: int = 0, detail: float = 0.5, places: Tensor | None = None) -> Draft:
        """Let every part see the photo in its own way (a head of line drawings sees lines) and average the drafts."""
        drafts = [part.draft(photo, seed=seed, detail=detail, places=places) for part in self.parts]
        colored = _mean([draft.colored for draft in drafts], self.shares)
        painted = _mean([draft.painted for draft in drafts], self.shares)
        return Draft(colored, painted, drafts[_largest(self.shares)].choices)

    @torch.no_grad()
    def redraft(self, colored: Tensor, *, seed: int = 0, detail: float = 0.5, places: Tensor | None = None) -> Draft:
        """Let every part draft and lay the drafts over one another; ``choices`` are those of the largest share."""
        drafts = [
            part.redraft(transfer(colored, part.color), seed=seed, detail=detail, places=places) for part in self.parts
        ]
        painted = _mean([draft.painted for draft in drafts], self.shares)
        return Draft(colored, painted, drafts[_largest(self.shares)].choices)

    def to_bytes(self) -> bytes:
        """Refuse: a mix is remembered by its heads and shares.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("a mix of heads is not stored as a head", hint="name its heads again with --mix")


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """Return weights as shares that add up to 1.

    Raises
    ------
    InputError
        If there are none or too many, one is negative or no number, or all are 0.
    """
    if not 1 <= len(weights) <= MAX_HEADS:
        raise InputError(f"1 to {MAX_HEADS} heads can be mixed, not {len(weights)}")
    usable = all(math.isfinite(weight) and 0 <= weight <= 1e6 for weight in weights)
    if not usable or sum(weights) <= 0:
        raise InputError(
            "weights must be between 0 and 1000000, and one of them above 0", hint="such as --mix monet=0.7 sketch=0.3"
        )
    return tuple(weight / sum(weights) for weight in weights)


def mix(heads: Sequence[Head], weights: Sequence[float], *, name: str = "") -> Head:
    """Mix heads.

    Parameters
    ----------
    heads
        Heads made for one backbone; those of weight 0 are left out. A single one comes back as it is.
    weights
        One per head, 0 or more, in any unit.
    name
        Name of the result.

    Raises
    ------
    InputError
        If the weights make no sense.
    CompatibilityError
        If the heads were made for different backbones.
    """
    if len(heads) != len(weights):
        raise InputError(f"{len(heads)} heads need as many weights, not {len(weights)}")
    used = [(head, share) for head, share in zip(heads, shares(weights), strict=True) if share > 0]
    if len(used) == 1:
        return used[0][0]
    hands = {head.change.shape for head, _ in used if head.change is not None}
    if len({(head.backbone, head.modulation.shape) for head, _ in used}) > 1 or len(hands) > 1:
        raise CompatibilityError(
            "heads made for different backbones cannot be mixed",
            hint="easel heads list shows which; easel heads refit NAME brings one up to date",
        )
    return _mixed([head for head, _ in used], [share for _, share in used], name=name)


def _mixed(parts: Sequence[Head], weights: Sequence[float], *, name: str) -> Mixed:
    largest = parts[_largest(weights)]
    return Mixed(
        name=name,
        config=_config([part.config for part in parts], weights, largest.config),
        backbone=largest.backbone,
        images=sum(part.images for part in parts),
        created=max(part.created for part in parts),
        color=_palette([part.color for part in parts], weights),
        surface=_surface([part.surface.tables() for part in parts], weights),
        levels=largest.levels,
        modulation=_mean([part.modulation for part in parts], weights),
        change=_hand(parts, weights),
        parts=tuple(parts),
        shares=tuple(weights),
    )


def _largest(weights: Sequence[float]) -> int:
    return max(range(len(weights)), key=lambda index: weights[index])


def _mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([weight * tensor for tensor, weight in zip(tensors, weights, strict=True)]).sum(0)


def _surface(tables: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> Surface:
    """Average what all parts remember; see :attr:`shared_model.surface.Surface.colors` for heads of early versions."""
    known = set.intersection(*(set(table) for table in tables))
    return Surface(**{name: _mean([table[name] for table in tables], weights) for name in sorted(known)})


def _hand(parts: Sequence[Head], weights: Sequence[float]) -> Tensor | None:
    """Average hands that were tuned from the same weights (Wortsman et al. 2022, "model soups"); who has none: 0."""
    own = [
        (part.change.float(), weight) for part, weight in zip(parts, weights, strict=True) if part.change is not None
    ]
    return _mean([change for change, _ in own], [weight for _, weight in own]).half() if own else None


def _config(configs: Sequence[HeadConfig], weights: Sequence[float], largest: HeadConfig) -> HeadConfig:
    """Average what is a matter of degree; sizes are those of the largest share."""
    numbers = {
        entry.name: min(
            1.0 if entry.name == "hand" else 4.0,
            sum(weight * getattr(config, entry.name) for config, weight in zip(configs, weights, strict=True)),
        )
        for entry in fields(HeadConfig)
        if isinstance(getattr(largest, entry.name), float)
    }
    return replace(largest, **numbers)


def _palette(colors: Sequence[ColorStats], weights: Sequence[float]) -> ColorStats:
    """Return the Wasserstein barycenter of the heads' palettes.

    Of their Gaussians by the fixed point of Alvarez-Esteban et al. (2016); of the tones along its axes as if
    each head's colors were independent along its own.
    """
    ridge = _FLOOR * torch.eye(3)
    covariances = [color.covariance + ridge for color in colors]
    middle = _mean(covariances, weights)
    for _ in range(12):
        root = _root(middle)
        inverse = torch.linalg.inv(root)
        inner = _mean([_root(root @ covariance @ root) for covariance in covariances], weights)
        middle = inverse @ inner @ inner @ inverse
    mean = _mean([color.mean for color in colors], weights)
    axes = torch.linalg.eigh(middle)[1].T.contiguous()
    tones = []
    for color, covariance in zip(colors, covariances, strict=True):
        inverse = torch.linalg.inv(_root(covariance))
        matrix = inverse @ _root(_root(covariance) @ middle @ _root(covariance)) @ inverse
        along = axes @ matrix @ color.axes.T  # (new axis, own axis)
        spread = (along.square() @ color.tones.square().mean(1)).sqrt()
        main = along.abs().argmax(1)
        own = color.tones[main] * along.gather(1, main[:, None]).sign()
        own = own.sort(1).values
        tones.append(own * (spread / own.square().mean(1).sqrt().clamp_min(1e-6))[:, None])
    share = min(1.0, sum(color.share * weight for color, weight in zip(colors, weights, strict=True)))
    return ColorStats(mean, middle - ridge, axes, _mean(tones, weights), share)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    result: Tensor = vectors @ torch.diag(values.clamp_min(1e-9).sqrt()) @ vectors.T
    return result
