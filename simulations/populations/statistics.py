"""How uneven a population is, in numbers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simulations.populations.deal import Share

__all__ = ["Statistics", "entropy_bits", "gini", "skew", "statistics"]

_DEALS = 200  # random deals that say how skewed an even population of this size looks


@dataclass(frozen=True)
class Statistics:
    """A population in numbers.

    Parameters
    ----------
    devices, photos, artworks, styles, domains
        How many there are; ``domains`` of photos.
    photos_each, art_each, styles_each, records_each
        Fewest, mean and most of one device.
    entropy_bits, entropy_even_bits
        Mean entropy of a device's styles, and what the same artworks give when they are dealt at random.
    skew, skew_even
        Mean total variation between a device's styles and everybody's, 0 (all alike) to 1, and what a
        random deal of the same sizes gives: with few artworks a device that is far from 0 too.
    gini
        Of the numbers of records, 0 (equal) to 1.
    own_tests, borrowed_tests
        Devices whose personal test has an artwork that they do not train on, and those that test on new
        photos with an artwork that they do train on, since there was no other.
    """

    devices: int
    photos: int
    artworks: int
    styles: int
    domains: int
    photos_each: tuple[int, float, int]
    art_each: tuple[int, float, int]
    styles_each: tuple[int, float, int]
    records_each: tuple[int, float, int]
    entropy_bits: float
    entropy_even_bits: float
    skew: float
    skew_even: float
    gini: float
    own_tests: int
    borrowed_tests: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def statistics(shares: Sequence[Share]) -> Statistics:
    """Count and compare the shares of a population."""
    styles = [share.styles for share in shares]
    even = _random_deals(styles)
    return Statistics(
        devices=len(shares),
        photos=sum(len(share.photos) for share in shares),
        artworks=sum(map(len, styles)),
        styles=len({style for own in styles for style in own}),
        domains=len({share.domain for share in shares}),
        photos_each=_spread([len(share.photos) for share in shares]),
        art_each=_spread(list(map(len, styles))),
        styles_each=_spread([len(set(own)) for own in styles]),
        records_each=_spread([share.records for share in shares]),
        entropy_bits=_mean([entropy_bits(own) for own in styles]),
        entropy_even_bits=_mean([_mean([entropy_bits(own) for own in one]) for one in even]),
        skew=skew(styles),
        skew_even=_mean([skew(one) for one in even]),
        gini=gini([share.records for share in shares]),
        own_tests=sum(bool(share.test_photos and share.test_art) for share in shares),
        borrowed_tests=sum(bool(share.test_photos and not share.test_art) for share in shares),
    )


def entropy_bits(labels: Sequence[str]) -> float:
    """Return the entropy of labels in bits.

    Examples
    --------
    >>> entropy_bits(["a", "a", "b", "b"])
    1.0
    """
    shares = [count / len(labels) for count in Counter(labels).values()]
    return -sum(share * math.log2(share) for share in shares) + 0.0


def skew(groups: Sequence[Sequence[str]]) -> float:
    """Return the mean total variation between the labels of each group and those of all, 0 to 1."""
    everybody = Counter(label for group in groups for label in group)
    total = sum(everybody.values())
    apart = []
    for group in groups:
        own = Counter(group)
        apart.append(sum(abs(own[label] / len(group) - count / total) for label, count in everybody.items()) / 2)
    return _mean(apart)


def gini(sizes: Sequence[int]) -> float:
    """Return the Gini coefficient: 0 if all are equal, towards 1 if one has everything.

    Examples
    --------
    >>> gini([5, 5, 5])
    0.0
    """
    ordered, count = sorted(sizes), len(sizes)
    weighted = sum((2 * rank - count - 1) * size for rank, size in enumerate(ordered, start=1))
    return weighted / (count * max(1, sum(ordered)))


def _random_deals(styles: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    dice = random.Random(0)
    pile = [style for own in styles for style in own]
    deals = []
    for _ in range(_DEALS if len(pile) < 5000 else 5):
        dice.shuffle(pile)
        rest = iter(pile)
        deals.append([[next(rest) for _ in own] for own in styles])
    return deals


def _spread(sizes: Sequence[int]) -> tuple[int, float, int]:
    return min(sizes), _mean(sizes), max(sizes)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
