"""Membership inference: whether a record was on the device whose update is seen.

The white-box attack on federated updates: the update of a device points against the gradients of
the records that it trained on (after Jagielski et al. 2023 and Nasr et al. 2019). A candidate's
score is the projection of the update on its own direction of descent, less what other devices'
updates give on average for the same candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.records import Batch
from simulations.audit.bounds import Floats, clopper_pearson
from simulations.audit.victims import SIGHTS, Sights, record_gradient

__all__ = ["Outcome", "attack_members", "auc_of", "outcome_of"]


@dataclass(frozen=True)
class Outcome:
    """How well members were told from others.

    Parameters
    ----------
    sight
        What the attacker saw.
    auc, auc_low, auc_high
        Area under the ROC curve, 0.5 is chance, on average over releases; 95 percent bootstrap interval
        over devices and releases.
    tpr, tpr_low, tpr_high
        Share of the members found at a false positive rate of ``fpr``; Clopper-Pearson interval.
    fpr
        That rate.
    members, others
        How many candidates of each kind.
    releases
        How often the attack was repeated with fresh noise on the same updates.
    curve
        ROC curve: true positive rates at :data:`GRID`.
    """

    sight: str
    auc: float
    auc_low: float
    auc_high: float
    tpr: float
    tpr_low: float
    tpr_high: float
    fpr: float
    members: int
    others: int
    releases: int
    curve: tuple[float, ...]


#: False positive rates of the drawn curves.
GRID = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def attack_members(
    backbone: Backbone,
    records: Batch,
    *,
    devices: int,
    sights: Sights,
    seed: int,
    releases: int = 1,
    fpr: float = 0.01,
) -> list[Outcome]:
    """Deal the records to devices, see what each sends, and guess for every record and every device.

    Parameters
    ----------
    backbone
        Where the round starts.
    records
        At least two per device.
    devices
        How many.
    sights
        How what is seen comes about.
    seed
        Of minibatches and draws; never of noise.
    releases
        Draws of the user-level noise per device. One draw moves all scores of a device alike, so that few
        devices say little.
    fpr
        False positive rate of the headline figure.
    """
    draws = objective.draw(torch.Generator().manual_seed(seed), size_px=records.size_px)
    downhill = [-record_gradient(backbone, records.select([i]), draws) for i in range(len(records))]
    directions = torch.nn.functional.normalize(torch.stack(downhill), dim=1)
    owner = np.arange(len(records)) % devices
    trained = ("device update", "example level")
    scores: dict[str, list[list[Floats]]] = {name: [] for name in SIGHTS[1:]}
    for device in range(devices):
        mine = records.select(np.flatnonzero(owner == device).tolist())
        seen = sights.of(backbone, mine, seed=seed + device, wanted=trained)
        for name in trained:
            scores[name].append([_project(directions, seen[name])])
        released = (sights.noised(seen["device update"]) for _ in range(releases))
        scores["user level"].append([_project(directions, update) for update in released])
    member = owner[None, :] == np.arange(devices)[:, None]
    tables = {name: np.swapaxes(np.array(rows), 0, 1) for name, rows in scores.items()}
    return [outcome_of(name, table, member, fpr=fpr, seed=seed) for name, table in tables.items()]


def outcome_of(sight: str, scores: Floats, member: np.ndarray, *, fpr: float, seed: int) -> Outcome:
    """Judge scores, (releases, devices, records), against who owns what, (devices, records).

    Each record's mean over the other devices is taken off first: some records attract every update.
    """
    releases, devices, _ = scores.shape
    centered = scores - (scores.sum(1, keepdims=True) - scores) / (devices - 1)
    inside, outside = centered[:, member], centered[:, ~member]
    cut = np.quantile(outside, 1 - fpr, axis=1, keepdims=True)
    found = float((inside > cut).mean())
    low, high = clopper_pearson(round(found * inside.shape[1]), inside.shape[1], alpha=0.025)
    spread = _bootstrap(centered, member, seed=seed)
    return Outcome(
        sight=sight,
        auc=_mean_auc(centered, member),
        auc_low=spread[0],
        auc_high=spread[1],
        tpr=found,
        tpr_low=low,
        tpr_high=high,
        fpr=fpr,
        members=inside.shape[1],
        others=outside.shape[1],
        releases=releases,
        curve=tuple(_found_at(rate, inside, outside) for rate in GRID),
    )


def _found_at(rate: float, inside: Floats, outside: Floats) -> float:
    """Share of the members above the score that ``rate`` of the others pass, on average over releases."""
    if rate == 1:
        return 1.0
    return float((inside > np.quantile(outside, 1 - rate, axis=1, keepdims=True)).mean())


def _mean_auc(scores: Floats, member: np.ndarray) -> float:
    return float(np.mean([auc_of(table[member], table[~member]) for table in scores]))


def auc_of(inside: Floats, outside: Floats) -> float:
    """Return the chance that a member scores above another, ties counting half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))[: inside.size]
    return float((ranks.sum() - inside.size * (inside.size + 1) / 2) / (inside.size * outside.size))


def _project(directions: Tensor, update: Tensor) -> Floats:
    return np.asarray((directions.double() @ update.double()).numpy())


def _bootstrap(scores: Floats, member: np.ndarray, *, seed: int, draws: int = 500) -> tuple[float, float]:
    """Resample whole releases and whole devices: scores that share noise or an update are not independent."""
    dice = np.random.default_rng(seed)
    releases, devices, _ = scores.shape
    values = []
    for _ in range(draws):
        some = dice.integers(0, devices, devices)
        table = scores[dice.integers(0, releases, releases)][:, some]
        values.append(_mean_auc(table, member[some]))
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
