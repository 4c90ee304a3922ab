"""Means with 95 % bootstrap intervals, over pairs and over styles.

Pairs that share a painting are not independent. Next to the usual interval (pairs drawn anew; Efron
1979), a second one draws whole styles anew and is wider where few styles were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Estimate", "estimate"]

_DRAWS, _ENDS = 2000, (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A mean and what it could as well have been.

    Parameters
    ----------
    mean
        Over all values.
    low, high
        95 % bootstrap interval over single values.
    group_low, group_high
        The same, drawing whole groups (styles, painters) anew.
    count
        How many values.
    positive
        How many of them are above 0.
    """

    mean: float
    low: float
    high: float
    group_low: float
    group_high: float
    count: int
    positive: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Sequence[float], groups: Sequence[str] | None = None, *, seed: int = 0) -> Estimate:
    """Bootstrap the mean of ``values``; the interval over single values equals ``score.summarize``'s.

    Parameters
    ----------
    values
        At least one number.
    groups
        The group of each value; every value its own group if absent.
    seed
        Of the draws.
    """
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(array), size=(_DRAWS, len(array)))
    low, high = np.quantile(array[picks].mean(1), _ENDS)
    names = list(groups) if groups is not None else [str(index) for index in range(len(array))]
    sums: Mapping[str, float] = {name: float(array[[n == name for n in names]].sum()) for name in dict.fromkeys(names)}
    counts = np.array([names.count(name) for name in sums], dtype=np.float64)
    totals = np.array(list(sums.values()))
    picks = rng.integers(0, len(totals), size=(_DRAWS, len(totals)))
    group_low, group_high = np.quantile(totals[picks].sum(1) / counts[picks].sum(1), _ENDS)
    return Estimate(
        float(array.mean()),
        float(low),
        float(high),
        float(group_low),
        float(group_high),
        len(array),
        int((array > 0).sum()),
    )
