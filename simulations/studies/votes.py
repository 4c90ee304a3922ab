"""What a judge says of pictures: whom it names, how surely, and how that compares between hands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from simulations.studies.classifier import Classifier
from simulations.studies.intervals import Estimate, estimate

__all__ = ["Vote", "compare_votes", "confusion", "mean_votes", "real_accuracy", "separable", "vote"]


@dataclass(frozen=True)
class Vote:
    """What the judge says of one picture.

    Parameters
    ----------
    right
        Whose it should be.
    named
        All painters, likeliest first: mean probability over the picture's crops.
    log_probability
        Of the right painter, natural logarithm.
    crops
        Share of the crops that are given to the right painter.
    """

    right: str
    named: tuple[str, ...]
    log_probability: float
    crops: float

    @property
    def first(self) -> float:
        """1 if the right painter is named."""
        return float(self.named[0] == self.right)

    @property
    def among_three(self) -> float:
        """1 if the right painter is among the first three."""
        return float(self.right in self.named[:3])


def vote(judge: Classifier, picture: Tensor, right: str) -> Vote:
    """Show a picture ``(1, 3, H, W)`` to the judge."""
    chances = judge.probabilities(picture)
    mean = chances.mean(0)
    place = judge.painters.index(right)
    named = tuple(judge.painters[index] for index in mean.argsort(descending=True).tolist())
    share = float((chances.argmax(1) == place).float().mean())
    return Vote(right, named, math.log(float(mean[place]) + 1e-6), share)


def real_accuracy(votes: Sequence[Vote]) -> dict[str, Any]:
    """Return how good a judge is on real pictures that it has not seen.

    Returns
    -------
    dict
        ``crops``, ``pictures`` and ``pictures_among_three``: shares named right; ``painters``: share
        of crops named right by painter; ``confusion``: right painter to named painter to count of pictures.
    """
    painters = sorted({vote.right for vote in votes})
    by_painter = {name: [vote for vote in votes if vote.right == name] for name in painters}
    return {
        "crops": sum(vote.crops for vote in votes) / len(votes),
        "pictures": sum(vote.first for vote in votes) / len(votes),
        "pictures_among_three": sum(vote.among_three for vote in votes) / len(votes),
        "painters": {name: sum(vote.crops for vote in some) / len(some) for name, some in by_painter.items()},
        "confusion": confusion(votes),
    }


def confusion(votes: Sequence[Vote]) -> dict[str, dict[str, int]]:
    """Return the right painter, to the named one, to how many pictures."""
    table: dict[str, dict[str, int]] = {}
    for item in votes:
        row = table.setdefault(item.right, {})
        row[item.named[0]] = row.get(item.named[0], 0) + 1
    return table


def separable(accuracy: Mapping[str, Any], *, factor: float) -> list[str]:
    """Return the painters whose real crops are named right at least ``factor`` times as often as by chance."""
    shares: Mapping[str, float] = accuracy["painters"]
    return [name for name, share in shares.items() if share >= factor / len(shares)]


def compare_votes(votes: Mapping[str, Sequence[Vote]], first: str, second: str) -> dict[str, Estimate]:
    """Return what hand ``first`` does better than ``second``, picture by picture; groups are painters."""
    groups = [item.right for item in votes[second]]
    both = list(zip(votes[first], votes[second], strict=True))
    return {
        "top1": estimate([a.first - b.first for a, b in both], groups),
        "top3": estimate([a.among_three - b.among_three for a, b in both], groups),
        "log_probability": estimate([a.log_probability - b.log_probability for a, b in both], groups),
    }


def mean_votes(votes: Sequence[Vote]) -> dict[str, Estimate]:
    """Return how often and how surely the right painter is named."""
    groups = [item.right for item in votes]
    return {
        "top1": estimate([item.first for item in votes], groups),
        "top3": estimate([item.among_three for item in votes], groups),
        "log_probability": estimate([item.log_probability for item in votes], groups),
    }
