"""What becomes of a round's sum: noise, the server's step, and the clip of the next round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from server.aggregation import Noise, server_optimizer
from server.budget import Budget
from server.config import FederationConfig
from server.robust import Pool
from server.state import RoundState
from shared_model.adaptive_clip import next_clip, share_within
from shared_model.correlated import correlated_normal
from shared_model.errors import FederationError
from shared_model.factorization import Factorization
from shared_model.noise import norm

__all__ = ["Release", "release"]


@dataclass(frozen=True, eq=False)
class Release:
    """What a round changed, and two numbers about it that are already private.

    Parameters
    ----------
    state
        With backbone, moments and clip moved; round and log as before.
    length
        L2 norm of the noisy average.
    within
        Noised share of updates within the clip; ``None`` without adaptive clipping.
    """

    state: RoundState
    length: float
    within: float | None = None


def release(
    state: RoundState, total: Pool, *, config: FederationConfig, keys: Sequence[bytes], noise: Noise
) -> Release:
    """Add the round's noise to its sums and move backbone and clip.

    Guarantees
    ----------
    The noise is scaled by ``state.clip``, to which this round's updates were cut; the clip that
    the count leads to holds from the next round on. Neither sum is looked at before its noise.

    Parameters
    ----------
    state
        Before the round.
    total
        The sums of updates and of bits (or, without noise on a sum, all updates for another rule).
    config
        The federation.
    keys
        Correlated noise only: one key per round, this one's last.
    noise
        Where fresh noise comes from.

    Raises
    ------
    FederationError
        If the step made the backbone infinite.
    """
    budget = Budget(config, state.noise_multiplier)
    drawn = _correlated(keys, config.factorization) if config.factorization else noise
    average = total.average(planned=config.planned, std=budget.std(state.clip), noise=drawn)
    moved = _apply(state, average, config=config)
    if not config.adaptive_clip:
        return Release(moved, norm(average))
    noisy_sum = total.within + float(noise((1,), std=budget.count_std))
    within = share_within(noisy_sum, config.planned)
    clip = next_clip(state.clip, within, quantile=config.clip_quantile, rate=config.clip_rate, largest=config.clip_max)
    return Release(dataclasses.replace(moved, clip=clip), norm(average), within)


def _correlated(keys: Sequence[bytes], factorization: Factorization) -> Noise:
    """Return the noise of the newest round, with that of earlier rounds taken back."""
    lags = factorization.lags()

    def draw(shape: tuple[int, ...], *, std: float) -> Tensor:
        return correlated_normal(keys, lags, shape=shape, std=std)

    return draw


def _apply(state: RoundState, average: Tensor, *, config: FederationConfig) -> RoundState:
    """Take one step of the server's optimiser."""
    optimizer = server_optimizer(config.optimizer, rate=config.server_lr)
    backbone, moments = optimizer.apply(state.backbone, average, state.moments)
    if not bool(torch.isfinite(backbone).all()):
        raise FederationError(
            f"round {state.round + 1} made the backbone infinite", hint="lower server_lr; the round before is saved"
        )
    return dataclasses.replace(state, backbone=backbone, moments=moments)
