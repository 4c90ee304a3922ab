"""One round as two functions: ``plan`` says whom it asks and what, ``step`` folds the replies into the next state.

Both are pure but for noise and secret sampling; neither knows a network or a clock.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from server.admission import Verdict
from server.aggregation import Noise, server_optimizer
from server.budget import Budget, solve_noise
from server.cohort import choose
from server.config import FederationConfig
from server.release import Release, release
from server.report import RoundReport, bounded
from server.robust import Pool, gather
from server.secure import Summed, check_secure
from server.state import RoundState, new_run_name
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, to_dict
from shared_model.correlated import new_key
from shared_model.errors import FederationError, PrivacyError
from shared_model.messages import RoundRequest
from shared_model.noise import Entropy, secure_normal
from shared_model.split import flatten
from shared_model.weights import architecture_hash

__all__ = ["Plan", "begin", "plan", "step"]


@dataclass(frozen=True)
class Plan:
    """Whom a round asks, and what.

    Parameters
    ----------
    request
        The settings that every one of them receives.
    nodes
        The devices, sorted.
    """

    request: RoundRequest
    nodes: tuple[int, ...]


def begin(config: FederationConfig, backbone: Backbone) -> RoundState:
    """Return the state before the first round: a new run's name, and its noise solved once.

    Raises
    ------
    PrivacyError
        If noise would drown the fleet and the configuration does not accept that.
    """
    vector = flatten(backbone)
    budget = Budget(config, solve_noise(config))
    budget.warning(parameters=len(vector))
    check_secure(config, size=len(vector), std=budget.std(config.clip))
    return RoundState(
        run=new_run_name(),
        round=0,
        reserved=0,
        config=to_dict(config),
        model=backbone.config,
        architecture=architecture_hash(backbone.config),
        noise_multiplier=budget.noise_multiplier,
        backbone=vector,
        moments=server_optimizer(config.optimizer, rate=config.server_lr).start(vector),
        clip=config.clip,
    )


def plan(state: RoundState, nodes: Sequence[int], *, config: FederationConfig) -> Plan:
    """Choose the devices of the next round (:func:`server.cohort.choose`) and write its request."""
    number = state.round + 1
    chosen = choose(nodes, round=number, asked=state.asked, config=config)
    request = RoundRequest(
        run=state.run,
        round=number,
        rounds=config.rounds,
        model=state.model,
        loss=LossConfig(adversarial=config.adversarial),
        architecture=state.architecture,
        unit=config.unit,
        clip=state.clip,
        record_clip=config.record_clip,
        noise_multiplier=state.noise_multiplier,
        adaptive_clip=config.adaptive_clip,
        count_noise=Budget(config, state.noise_multiplier).count_noise,
        mechanism=config.mechanism,
        min_separation=config.min_separation,
        cohort=config.cohort,
        population=config.population,
        delta=config.effective_delta,
        simulated=config.simulated,
        local_steps=config.local_steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        record_rate=min(1.0, config.batch / config.records),
        upload=config.upload,
        top_k=config.top_k,
        seed=config.seed,
        attempt=max(number, state.attempt),
        over_selection=config.over_selection,
        rest_s=config.rest_s,
    )
    return Plan(request, chosen)


def step(
    state: RoundState,
    current: Plan,
    verdicts: Iterable[Verdict],
    *,
    config: FederationConfig,
    noise: Noise = secure_normal,
    entropy: Entropy = os.urandom,
    summed: Summed | None = None,
) -> RoundState:
    """Fold the verdicts on a round's replies into the next state; its last report tells what happened.

    Parameters
    ----------
    state
        With the round's privacy charged (:meth:`server.state.RoundState.reserve`).
    current
        The round's plan.
    verdicts
        Consumed one at a time; memory does not grow with their number.
    config
        The federation.
    noise
        Where fresh noise comes from.
    entropy
        Where the keys of correlated noise come from.
    summed
        A finished sum, instead of verdicts: of secure aggregation, whose devices have added the noise, or
        of several aggregators.

    Raises
    ------
    PrivacyError
        If the round was not charged first.
    FederationError
        If a finished sum comes where the configuration's rule needs all replies.
    """
    total: Pool
    number = state.round + 1
    if state.reserved != number:
        raise PrivacyError(f"round {number} was not charged before it was run")
    if summed is not None and config.rule != "mean":
        raise FederationError(f"a finished sum cannot be aggregated by {config.aggregation!r}")
    budget = Budget(config, state.noise_multiplier)
    if summed is None:
        total = gather(config, len(state.backbone), step=budget.step(state.clip))
        found = _collect(verdicts, total, asked=len(current.nodes))
    else:
        total, noise = summed.total, _no_more_noise if summed.noised else noise
        found = _Found(summed.reasons, summed.bytes_up)
    keys = (*state.noise_keys, new_key(entropy=entropy)) if config.factorization else ()
    enough = total.count >= max(config.needed, total.least)
    done = release(state, total, config=config, keys=keys, noise=noise) if enough else Release(state, 0.0)
    report = RoundReport(
        round=number,
        asked=len(current.nodes),
        accepted=total.count,
        reasons=dict(sorted(found.reasons.items())),
        released=enough,
        epsilon=bounded(budget.epsilon(state.charged)),
        run_epsilon=bounded(budget.run_epsilon(state.charged)),
        clip=state.clip,
        within=done.within,
        update_norm=done.length,
        bytes_up=found.nbytes,
        staleness=found.staleness / total.count if config.buffered and total.count else None,
    )
    return dataclasses.replace(
        done.state,
        round=number,
        reports=(*state.reports, report),
        noise_keys=keys if number < config.rounds else (),
    )


def _no_more_noise(shape: tuple[int, ...], *, std: float) -> Tensor:
    """Add nothing: the devices have added the noise."""
    return torch.zeros(shape, dtype=torch.float64)


@dataclass
class _Found:
    """What came beside the updates."""

    reasons: Counter[str] = field(default_factory=Counter)
    nbytes: int = 0
    staleness: int = 0


def _collect(verdicts: Iterable[Verdict], total: Pool, *, asked: int) -> _Found:
    """Put what was admitted into the pool and count the rest."""
    found, judged = _Found(), set[int]()
    for verdict in verdicts:
        found.nbytes += verdict.nbytes
        if verdict.node is not None:
            judged.add(verdict.node)
        if verdict.update is None:
            found.reasons[verdict.reason] += 1
            continue
        late = verdict.staleness > 0
        total.add(verdict.update * verdict.weight if late else verdict.update, within=verdict.within)
        found.staleness += verdict.staleness
    if len(judged) < asked:
        found.reasons["not reached"] += asked - len(judged)
    return found
