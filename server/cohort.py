"""Whom a round asks: a secret random sample, a simulation's seeded one, or whoever may come again."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from server.config import FederationConfig
from shared_model.noise import secure_bernoulli

__all__ = ["choose", "choose_idle", "remember"]


def choose(nodes: Sequence[int], *, round: int, asked: Mapping[int, int], config: FederationConfig) -> tuple[int, ...]:
    """Choose the devices of a round.

    Guarantees
    ----------
    ``"sampled"``: each device is asked independently with probability
    ``over_selection * cohort / population``, by coins from the operating system. ``"factorized"``:
    nobody who was asked less than ``min_separation`` rounds ago is asked, and at most
    ``over_selection`` times the planned cohort is. A simulation draws from the seed and the round, so
    that a resumed run asks the same ones.

    Assumes
    -------
    A device keeps its node identifier. Where it does not, its own ledger refuses.

    Parameters
    ----------
    nodes
        Connected devices, in any order.
    round
        Number of the round, from 1.
    asked
        See :func:`remember`.
    config
        The federation.

    Returns
    -------
    tuple of int
        Sorted.
    """
    ordered = sorted(nodes)
    if config.factorization:
        ordered = _rested(ordered, round=round, asked=asked, config=config)
    if config.simulated or config.factorization:
        draw = random.Random(f"{config.seed}/{round}") if config.simulated else random.SystemRandom()
        return tuple(sorted(draw.sample(ordered, min(config.selected, len(ordered)))))
    coins = secure_bernoulli(len(ordered), rate=config.sample_rate)
    return tuple(node for node, chosen in zip(ordered, coins, strict=True) if chosen)


def choose_idle(
    nodes: Sequence[int],
    *,
    round: int,
    asked: Mapping[int, int],
    busy: Collection[int],
    config: FederationConfig,
) -> tuple[int, ...]:
    """Choose devices for the free places of a buffered federation.

    Guarantees
    ----------
    Nobody who trains already is asked, nobody twice for one release, nobody before ``min_separation``
    releases are over, and never more than ``concurrency`` train at the same time.

    Parameters
    ----------
    nodes, round, asked, config
        As for :func:`choose`; ``round`` is the release that an answer in time would come into.
    busy
        Devices that have been asked and have not answered.
    """
    idle = _rested(sorted(set(nodes) - set(busy)), round=round, asked=asked, config=config)
    free = max(0, config.in_flight - len(busy))
    draw = random.Random(f"{config.seed}/{round}/{len(asked)}") if config.simulated else random.SystemRandom()
    return tuple(sorted(draw.sample(idle, min(free, len(idle)))))


def _rested(nodes: Sequence[int], *, round: int, asked: Mapping[int, int], config: FederationConfig) -> list[int]:
    return [node for node in nodes if node not in asked or round - asked[node] >= config.min_separation]


def remember(
    asked: Mapping[int, int], nodes: Sequence[int], *, round: int, config: FederationConfig
) -> Mapping[int, int]:
    """Return who was asked when, with the devices of this round, without those who may come to it again.

    Empty where cohorts are sampled. A round that a crash interrupted is repeated with other devices:
    those asked before stay on record, as they do in their own ledgers.
    """
    if not (config.factorization or config.buffered):
        return {}
    kept = {node: number for node, number in asked.items() if round - number < config.min_separation}
    return kept | dict.fromkeys(nodes, round)
