"""Aggregation that looks at all replies of a round at once: medians, trimmed means, Krum.

Guarantees
    A malicious minority moves the result no further than honest updates reach: number by number for
    :func:`median` (fewer than half malicious) and :func:`trimmed_mean` (at most ``trim`` of them); with
    Krum the result is (the mean of) updates that lie close to most others (Blanchard et al. 2017, for
    fewer than half of n - 2).
Assumes
    Honest updates are alike. Where people's pictures differ they are not, and what is rare is voted
    away together with what is malicious.
Edge cases
    None of these is a sum: one device can move a median by more than its clip, so noise on a sum would
    not hide it. With noise to add they refuse. Replies are kept until the round ends: 4 bytes a
    parameter each, which :func:`memory` tells. An even number of replies: the median is the mean of the
    middle two. Fewer than three replies give no Krum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from server.aggregation import Noise, StreamingSum
from server.config import FederationConfig
from shared_model.errors import FederationError, PrivacyError

__all__ = ["Gathered", "Pool", "Rule", "gather", "krum", "median", "memory", "trimmed_mean"]

Rows = Sequence[npt.NDArray[np.float32]]
#: (n updates of length P) -> one of length P.
Rule = Callable[[Rows], npt.NDArray[np.floating]]
_BLOCK = 1 << 16


class Pool(Protocol):
    """What a round's admitted updates are put into, one by one."""

    count: int
    within: float

    @property
    def least(self) -> int:
        """Updates below which there is no result."""

    def add(self, update: Tensor, *, within: bool | None = None) -> None:
        """Add one admitted update, (P,)."""

    def average(self, *, planned: int, std: float, noise: Noise) -> Tensor:
        """Return the round's update, (P,) float32, with its noise."""


class Gathered:
    """Keeps every update of a round for a rule that needs all of them.

    Parameters
    ----------
    size
        Length of an update.
    rule
        What becomes of them.
    least
        Updates below which the rule gives nothing.
    """

    def __init__(self, size: int, *, rule: Rule, least: int = 1) -> None:
        self._size, self._rule, self.least = size, rule, least
        self._rows: list[npt.NDArray[np.float32]] = []
        self.count = 0
        self.within = 0.0

    def add(self, update: Tensor, *, within: bool | None = None) -> None:
        """Keep one admitted update; see :meth:`server.aggregation.StreamingSum.add`."""
        if update.shape != (self._size,):
            raise FederationError(f"an update has shape {tuple(update.shape)}, not {(self._size,)}")
        self._rows.append(update.to(torch.float32).numpy())
        self.count += 1
        self.within += 0.0 if within is None else within - 0.5

    def average(self, *, planned: int, std: float, noise: Noise) -> Tensor:
        """Apply the rule; the number of planned devices plays no part.

        Raises
        ------
        PrivacyError
            If noise is to be added: its size would be wrong.
        """
        if std != 0.0:
            raise PrivacyError("noise for a sum does not protect what is no sum", hint='set aggregation = "mean"')
        rows, self._rows = self._rows, []
        return torch.from_numpy(np.ascontiguousarray(self._rule(rows), dtype=np.float32))


def gather(config: FederationConfig, size: int, *, step: float) -> Pool:
    """Return an empty pool for the updates of one round.

    Parameters
    ----------
    config
        Says the rule.
    size
        Length of an update.
    step
        Lattice of a streaming sum.
    """
    if config.rule == "mean":
        return StreamingSum(size, step=step)
    if config.rule == "flower":
        from server.flower_rules import flower_rule

        return Gathered(size, rule=flower_rule(config), least=3)
    rules: dict[str, tuple[Rule, int]] = {
        "krum": (lambda rows: krum(rows, malicious=config.malicious, many=False), 3),
        "median": (median, 1),
        "multi-krum": (lambda rows: krum(rows, malicious=config.malicious, many=True), 3),
        "trimmed-mean": (lambda rows: trimmed_mean(rows, trim=config.trim), 1),
    }
    rule, least = rules[config.rule]
    return Gathered(size, rule=rule, least=least)


def memory(config: FederationConfig, size: int) -> str:
    """Say what keeping a round's replies will take; empty for the mean, which keeps none."""
    if config.rule == "mean":
        return ""
    gigabytes = 4e-9 * size * config.selected
    return (
        f"aggregation {config.aggregation!r} needs all replies of a round at once: about {gigabytes:.2g} GB for "
        f"{config.selected} devices of {size} parameters" + (", and as much again" if config.rule == "flower" else "")
    )


def median(rows: Rows) -> npt.NDArray[np.floating]:
    """Return the median of every number (Yin et al. 2018)."""
    return _by_block(rows, lambda block: np.median(block, axis=0))


def trimmed_mean(rows: Rows, *, trim: float) -> npt.NDArray[np.floating]:
    """Return the mean of every number without the ``trim`` largest and smallest shares (Yin et al. 2018)."""
    cut = int(trim * len(rows))

    def middle(block: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        kept = np.partition(block, (cut, len(block) - cut - 1), axis=0)[cut : len(block) - cut]
        return np.asarray(kept.mean(axis=0))

    return _by_block(rows, middle)


def krum(rows: Rows, *, malicious: float, many: bool) -> npt.NDArray[np.floating]:
    """Return the update that lies closest to most others, or the mean of all but a malicious share of them.

    Parameters
    ----------
    rows
        At least three.
    malicious
        Share that may be malicious; f = that share of n, but never so many that n < 2 f + 3.
    many
        Multi-Krum: the mean of the n - f updates with the best scores.
    """
    count = len(rows)
    outside = max(0, min(int(malicious * count), (count - 3) // 2))
    distances = _distances(rows)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, : max(1, count - outside - 2)]
    best = np.argsort(nearest.sum(axis=1), kind="stable")[: count - outside if many else 1]
    return np.asarray(np.mean([rows[index] for index in best], axis=0, dtype=np.float64))


def _distances(rows: Rows) -> npt.NDArray[np.float64]:
    """Return squared L2 distances, (n, n)."""
    products = np.zeros((len(rows), len(rows)))
    for block in _blocks(rows):
        wide = block.astype(np.float64)
        products += wide @ wide.T
    lengths = np.diag(products)
    return np.maximum(lengths[:, None] + lengths[None, :] - 2.0 * products, 0.0)


def _by_block(
    rows: Rows, reduce: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]
) -> npt.NDArray[np.floating]:
    return np.concatenate([reduce(block) for block in _blocks(rows)])


def _blocks(rows: Rows) -> Iterator[npt.NDArray[np.float32]]:
    """Yield all updates in pieces of the same numbers, (n, <= 65536) each, so that no second copy of all is made."""
    for start in range(0, len(rows[0]), _BLOCK):
        yield np.stack([row[start : start + _BLOCK] for row in rows])
