"""Who gets which pictures: the kinds of populations, as pure functions of the sources and the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from shared_model.errors import InputError
from simulations.populations.config import PopulationConfig
from simulations.populations.light import LIGHTS
from simulations.populations.sources import Group, Sources, shuffled

__all__ = ["Deal", "Share", "deal", "quantities"]

_FEWEST_RECORDS = 2

#: An artwork with its style, or a photo with its domain.
Work = tuple[str, Path]


@dataclass(frozen=True)
class Share:
    """What one person gets.

    Parameters
    ----------
    photos, art
        On which the device trains.
    styles
        The style of each of ``art``.
    test_photos, test_art
        On which it does not; ``test_art`` is empty where no other artwork was left.
    domain
        Of the photos; empty where all are of one.
    records
        Training pairs.
    light
        Under which the photos are shown (:mod:`simulations.populations.light`).
    """

    photos: tuple[Path, ...]
    art: tuple[Path, ...]
    styles: tuple[str, ...]
    test_photos: tuple[Path, ...]
    test_art: tuple[Path, ...]
    domain: str
    records: int
    light: str = "day"


@dataclass(frozen=True)
class Deal:
    """Files of every person, and files of nobody.

    Parameters
    ----------
    shares
        One a person.
    held_photos, held_art
        Held out.
    """

    shares: tuple[Share, ...]
    held_photos: tuple[Path, ...]
    held_art: tuple[Path, ...]

    @property
    def photos(self) -> tuple[tuple[Path, ...], ...]:
        """Photos on which each person trains."""
        return tuple(share.photos for share in self.shares)

    @property
    def art(self) -> tuple[tuple[Path, ...], ...]:
        """Artworks of each person."""
        return tuple(share.art for share in self.shares)


def deal(sources: Sources, config: PopulationConfig) -> Deal:
    """Deal photos and artworks; nobody gets a picture that another has, or that is held out.

    Raises
    ------
    InputError
        If there are too few pictures, or too few hands for one a device.
    """
    dice = random.Random(f"{config.seed}/price")  # so named when the price study alone dealt pictures
    photos, works, kept = shuffled(sources, dice)
    tests = kept.test_photos
    sizes = quantities(config)
    taken, spare, domains = _photos(photos, sizes, config, apart=bool(tests))
    if tests:
        each = len(tests) // config.devices
        spare = [tuple(tests[i * each : (i + 1) * each]) for i in range(config.devices)]
    shares = []
    for index, (own, extra) in enumerate(_art(works, config, dice)):
        records = config.records
        if config.kind == "quantity":
            records = max(_FEWEST_RECORDS, round(config.records * len(taken[index]) / config.photos_each))
        light = "day" if config.kind != "domain" or domains[index] else tuple(LIGHTS)[index % config.domains]
        shares.append(
            Share(
                taken[index],
                tuple(path for _, path in own),
                tuple(style for style, _ in own),
                spare[index],
                tuple(path for _, path in extra) if config.tests else (),
                domains[index] or (light if config.kind == "domain" else ""),
                records,
                light,
            )
        )
    return Deal(tuple(shares), kept.held_photos, kept.held_art)


def quantities(config: PopulationConfig) -> tuple[int, ...]:
    """Return how many photos each device is to have; at least one.

    With ``"quantity"`` the shares are one draw of a Dirichlet distribution with ``alpha``; their sum stays.
    """
    if config.kind != "quantity":
        return (config.photos_each,) * config.devices
    total = config.devices * (config.photos_each - 1)
    rng = np.random.default_rng(config.seed)
    shares = np.cumsum(rng.dirichlet([config.alpha] * config.devices))
    ends = np.rint(shares / shares[-1] * total).astype(int)
    return tuple(1 + int(size) for size in np.diff(ends, prepend=0))


def _photos(
    photos: Sequence[Work], sizes: Sequence[int], config: PopulationConfig, *, apart: bool
) -> tuple[list[tuple[Path, ...]], list[tuple[Path, ...]], list[str]]:
    """Deal photos for training and for personal tests; less of each where there are too few."""
    tests = 0 if apart else config.tests
    names = list(dict.fromkeys(label for label, _ in photos))
    by_domain = config.kind == "domain" and len(names) > 1
    piles = {name: [path for label, path in photos if label == name] for name in names}
    pile_of = [names[index % len(names)] if by_domain else "" for index in range(config.devices)]
    piles[""] = [path for _, path in photos]
    taken: list[tuple[Path, ...]] = [()] * config.devices
    spare = list(taken)
    for name in dict.fromkeys(pile_of):
        users = [index for index, at in enumerate(pile_of) if at == name]
        own, kept = _fitted([sizes[index] for index in users], tests, len(piles[name]))
        rest = iter(piles[name])
        for index, size in zip(users, own, strict=True):
            taken[index] = tuple(islice(rest, size))
            spare[index] = tuple(islice(rest, kept))
    return taken, spare, pile_of


def _fitted(sizes: Sequence[int], tests: int, there: int) -> tuple[list[int], int]:
    """Return how many photos each device trains on, and how many it keeps for its test, out of those there."""
    users = len(sizes)
    if there < users * (2 if tests else 1):
        raise InputError(f"{there} photos are left for {users} people", hint="name more folders, or lower `devices`")
    if sum(sizes) + users * tests <= there:
        return list(sizes), tests
    kept = min(tests, max(1, there // users // 2))
    left, total = there - kept * users, sum(sizes)
    own = [max(1, min(size, size * left // total)) for size in sizes]
    while sum(own) > left:
        own[own.index(max(own))] -= 1
    return own, kept


def _art(works: list[Group], config: PopulationConfig, dice: random.Random) -> list[tuple[list[Work], list[Work]]]:
    """Deal artworks for training, and one more for the personal test where there is one."""
    if config.kind == "natural":
        return _by_hand(works, config)
    piles = {group.label: [(group.label, path) for path in group.files] for group in works}
    for pile in piles.values():
        dice.shuffle(pile)
    total = sum(map(len, piles.values()))
    if total < config.devices:
        raise InputError(f"{total} artworks are left for {config.devices} people", hint="name more folders of art")
    extra = 1 if config.tests and total // config.devices > 1 else 0
    each = min(config.art_each + extra, total // config.devices)
    dealt = _mixtures(piles, each, config) if config.kind == "dirichlet" else _evenly(piles, each, config, dice)
    return [(hand[: each - extra], hand[each - extra :]) for hand in dealt]


def _by_hand(works: list[Group], config: PopulationConfig) -> list[tuple[list[Work], list[Work]]]:
    """One hand a device, hands with enough works first."""
    if len(works) < config.devices:
        raise InputError(
            f"{len(works)} hands are left for {config.devices} people",
            hint='name more folders, lower `devices`, or deal otherwise: kind = "iid"',
        )
    full = config.art_each + (1 if config.tests else 0)
    works.sort(key=lambda hand: len(hand.files) < full)
    dealt = []
    for hand in works[: config.devices]:
        pile = [(hand.label, path) for path in hand.files]
        train = min(config.art_each, len(pile) - 1) if config.tests and len(pile) > 1 else config.art_each
        dealt.append((pile[:train], pile[train : train + 1]))
    return dealt


def _evenly(piles: dict[str, list[Work]], each: int, config: PopulationConfig, dice: random.Random) -> list[list[Work]]:
    everything = [work for pile in piles.values() for work in pile]
    dice.shuffle(everything)
    return [everything[index * each : (index + 1) * each] for index in range(config.devices)]


def _mixtures(piles: dict[str, list[Work]], each: int, config: PopulationConfig) -> list[list[Work]]:
    """Each device draws a mixture of styles, then artworks from it; styles that are used up leave the mixture."""
    rng = np.random.default_rng(config.seed)
    names = list(piles)
    prior = np.array([len(piles[name]) for name in names], dtype=float)
    dealt = []
    for _ in range(config.devices):
        mixture = rng.dirichlet(np.maximum(config.alpha * prior / prior.sum() * len(names), 1e-3))
        hand: list[Work] = []
        while len(hand) < each:
            left = np.array([bool(piles[name]) for name in names])
            weights = np.where(left, mixture, 0.0)
            weights = weights if weights.sum() > 1e-12 else left.astype(float)
            hand.append(piles[names[rng.choice(len(names), p=weights / weights.sum())]].pop())
        dealt.append(hand)
    return dealt
