"""The one-run audit (Steinke, Nasr and Jagielski 2023): many canaries in ONE run, and their coins guessed.

It takes no credit for knowing the mechanism: the bound is on the whole run as it was carried out.
It is loose by a factor of two to four, so it can only refute claims below its ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from client.private_training import poisson_sample
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from simulations.audit.bounds import Floats, one_run_epsilon
from simulations.audit.findings import Finding
from simulations.audit.subjects import Subject

__all__ = ["SHARES", "audit_one_run", "refuted_epsilon", "watch"]

#: Shares of the canaries that are guessed; the rest is abstained from.
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


def watch(
    subject: Subject, *, steps: int, canaries: int, seed: int, sample_rate: float = 1.0
) -> tuple[Floats, np.ndarray]:
    """Run ``steps`` steps with the same canaries and add up what each coordinate released.

    Returns
    -------
    scores
        (canaries,) float64.
    coins
        (canaries,) bool: which were in the data set. With ``sample_rate`` below 1 each step takes
        a Poisson sample of those, drawn from the operating system.
    """
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(subject.size, generator=generator)[:canaries]
    coins = torch.rand(len(places), generator=generator) < 0.5
    members = places[coins]
    total = torch.zeros(len(places), dtype=torch.float64)
    for _ in range(steps):
        chosen = poisson_sample(len(members), rate=sample_rate, generator=None)
        total += subject.release(members[chosen])[places]
    return total.numpy(), coins.numpy()


def refuted_epsilon(
    scores: Floats, coins: np.ndarray, *, delta: float, alpha: float, shares: Sequence[float] = SHARES
) -> float:
    """Return the largest epsilon that guessing from these scores refutes at error ``alpha``.

    The highest scores are guessed "in", the lowest "out"; ``alpha`` is shared by all numbers of
    guesses that are tried.
    """
    order, best = np.argsort(scores), 0.0
    for share in shares:
        half = max(1, round(share * len(scores) / 2))
        right = int((~coins[order[:half]]).sum() + coins[order[-half:]].sum())
        found = one_run_epsilon(
            canaries=len(scores), guesses=2 * half, right=right, delta=delta, alpha=alpha / len(shares)
        )
        best = max(best, found)
    return best


def audit_one_run(
    subject: Subject,
    *,
    steps: int,
    canaries: int,
    seed: int,
    sample_rate: float = 1.0,
    delta: float = 1e-5,
    bug: str = "",
    alarm: float = 1e-7,
    error: float = 0.05,
) -> Finding:
    """Carry out a whole run and say whether its output refutes its epsilon.

    Guarantees
    ----------
    As for :func:`simulations.audit.canaries.audit_canaries`, and without assuming that the noise
    is Gaussian or independent.

    Parameters
    ----------
    subject
        What is audited.
    steps, sample_rate, delta
        The run, and the delta of its claim.
    canaries, seed
        How many (even), and the seed of coins and coordinates.
    bug, alarm, error
        As for the per-step audit.
    """
    scores, coins = watch(subject, steps=steps, canaries=canaries, seed=seed, sample_rate=sample_rate)
    claimed = epsilon([(Mechanism(subject.noise_multiplier, sample_rate, subject.unit), steps)], delta=delta)
    return Finding(
        audit="one run",
        subject=subject.name,
        bug=bug,
        quantity="epsilon",
        claimed=claimed,
        measured=refuted_epsilon(scores, coins, delta=delta, alpha=error),
        violation=refuted_epsilon(scores, coins, delta=delta, alpha=alarm) > claimed,
        alarm=alarm,
    )
