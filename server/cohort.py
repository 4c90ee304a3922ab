"""Whom a round asks: a secret random sample, a simulation's seeded one, or whoever may come again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from server.config import FederationConfig
from shared_model.noise import secure_bernoulli

__all__ = ["choose", "remember"]


def choose(nodes: Sequence[int], *, round: int, asked: Mapping[int, int], config: FederationConfig) -> tuple[int, ...]:
    """Choose the devices of a round.

    Guarantees
    ----------
    ``"sampled"``: each device is asked independently with probability ``cohort / population``, by
    coins from the operating system. ``"factorized"``: nobody who was asked less than
    ``min_separation`` rounds ago is asked, and at most the planned cohort is. A simulation draws
    from the seed and the round, so that a resumed run asks the same ones.

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
        ordered = [node for node in ordered if node not in asked or round - asked[node] >= config.min_separation]
    if config.simulated or config.factorization:
        draw = random.Random(f"{config.seed}/{round}") if config.simulated else random.SystemRandom()
        return tuple(sorted(draw.sample(ordered, min(config.planned, len(ordered)))))
    coins = secure_bernoulli(len(ordered), rate=config.cohort / config.population)
    return tuple(node for node, chosen in zip(ordered, coins, strict=True) if chosen)


def remember(
    asked: Mapping[int, int], nodes: Sequence[int], *, round: int, config: FederationConfig
) -> Mapping[int, int]:
    """Return who was asked when, with the devices of this round, without those who may come to it again.

    Empty where devices are sampled. A round that a crash interrupted is repeated with other devices:
    those asked before stay on record, as they do in their own ledgers.
    """
    if not config.factorization:
        return {}
    kept = {node: number for node, number in asked.items() if round - number < config.min_separation}
    return kept | dict.fromkeys(nodes, round)
