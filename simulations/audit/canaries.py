"""The per-step audit: a canary in each of many coordinates, in or out by a coin, and who can tell.

After Nasr et al. 2023 (Tight Auditing of Differentially Private Machine Learning) with dirac
canaries: the strongest adversary that the definition allows, who knows everything but the coin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from simulations.audit.bounds import Floats, epsilon_of, mu_at_least
from simulations.audit.findings import Finding
from simulations.audit.subjects import Subject

__all__ = ["Claim", "Scores", "audit_canaries", "observe"]


@dataclass(frozen=True)
class Claim:
    """What the bound on one step is turned into: so many steps of it, so sampled.

    Attributes
    ----------
    sample_rate, steps, delta
        Of the run whose epsilon is claimed.
    """

    sample_rate: float = 0.1
    steps: int = 200
    delta: float = 1e-5


@dataclass(frozen=True)
class Scores:
    """Released values at the canaries' coordinates, in clipping bounds.

    Attributes
    ----------
    inside, outside
        Of canaries that took part, and that did not.
    """

    inside: Floats
    outside: Floats


def observe(subject: Subject, *, steps: int, canaries: int, seed: int) -> Scores:
    """Release ``steps`` times, each with fresh canaries of which each is in by a fair coin.

    The coins and coordinates are seeded, so that an audit repeats in everything but the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    inside: list[Tensor] = []
    outside: list[Tensor] = []
    for _ in range(steps):
        places = torch.randperm(subject.size, generator=generator)[:canaries]
        taken = torch.rand(len(places), generator=generator) < 0.5
        released = subject.release(places[taken])
        inside.append(released[places[taken]])
        outside.append(released[places[~taken]])
    return Scores(_numbers(inside), _numbers(outside))


def audit_canaries(
    subject: Subject, scores: Scores, *, claim: Claim, bug: str = "", alarm: float = 1e-7, error: float = 0.05
) -> Finding:
    """Judge scores: whether one step hides one clipped contribution as well as it claims.

    Guarantees
    ----------
    Code that keeps its claim is a violation with probability at most ``alarm`` (up to float32
    rounding of a relative 1e-6). ``measured`` is above the true epsilon with probability at most
    ``error``, up to the half percent by which the accountant rounds up.

    Limits
    ------
    It tests clip, sum and noise. That records are sampled as claimed is taken from the accountant.

    Parameters
    ----------
    subject, scores
        What was audited, from `observe`.
    claim
        Turns the bound on a step into an epsilon.
    bug
        What was planted, for the record.
    alarm
        Chance of a false alarm.
    error
        Chance that the reported epsilon is too high.
    """
    strict = mu_at_least(scores.inside, scores.outside, alpha=alarm)
    shown = mu_at_least(scores.inside, scores.outside, alpha=error)
    mechanism = Mechanism(subject.noise_multiplier, claim.sample_rate, subject.unit)
    return Finding(
        audit="canaries",
        subject=subject.name,
        bug=bug,
        quantity="epsilon",
        claimed=epsilon([(mechanism, claim.steps)], delta=claim.delta),
        measured=epsilon_of(
            shown, sample_rate=claim.sample_rate, steps=claim.steps, delta=claim.delta, unit=subject.unit
        ),
        violation=strict > 1.0 / subject.noise_multiplier,
        alarm=alarm,
    )


def _numbers(parts: list[Tensor]) -> Floats:
    return np.concatenate([part.double().numpy() for part in parts])
