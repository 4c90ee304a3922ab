"""Whether noise is as strong as claimed, new in every step, and beyond the reach of a seed.

Three tests on releases without any contribution, which are noise alone. Noise drawn from a seeded
generator fails: the same seeds bring the same noise back, in another step or another process.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch

from simulations.audit.bounds import Floats
from simulations.audit.findings import Finding
from simulations.audit.subjects import Subject

__all__ = ["audit_noise", "correlation_limit", "echo_limit", "noise_of"]


def noise_of(make: Callable[[], Subject], *, steps: int, repeats: int = 2, seed: int = 0) -> Floats:
    """Return noise-only releases, (repeats, steps, P): the same seeded process, over and over.

    Every public source of randomness is set to ``seed`` before each repeat, as federated code
    that wants to be reproducible does; noise must not follow it.
    """
    runs = []
    for _ in range(repeats):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        subject = make()
        nobody = torch.zeros(0, dtype=torch.long)
        runs.append(np.stack([subject.release(nobody).numpy() for _ in range(steps)]))
    return np.stack(runs)


def audit_noise(subject: Subject, noise: Floats, *, bug: str = "", alarm: float = 1e-7) -> list[Finding]:
    """Judge noise-only releases from `noise_of`.

    *Noise strength*: the sample deviation, against the lower tail of chi-square. *Noise repeats*:
    the largest correlation of any two releases, across steps and repeats. *Noise returns*: the
    largest correlation of a release with itself at any distance, which a generator that starts
    anew within a step would show.

    Guarantees
    ----------
    Fresh Gaussian noise of at least the claimed deviation is a violation with probability at most
    ``alarm`` in each of the three (the third by a normal approximation, 7 percent off in the tail
    at 20,000 coordinates, which its limit allows for twice over).

    Edge cases
    ----------
    Noise of length zero has no direction: its correlations count as 1.
    """
    flat = noise.reshape(-1, noise.shape[-1])
    count, length = flat.shape
    pairs = count * (count - 1) // 2
    between = correlation_limit(length, alarm / pairs)
    found = _largest_correlation(flat)
    echo = max(_largest_echo(row) for row in flat)
    within = echo_limit(length, alarm / count)
    sigma, spread = subject.noise_multiplier, float(np.sqrt(np.square(flat).mean()))
    least = sigma * _shortest(flat.size, alarm)

    def finding(audit: str, quantity: str, claimed: float, measured: float, violation: bool) -> Finding:
        return Finding(audit, subject.name, bug, quantity, claimed, measured, violation, alarm)

    return [
        finding("noise strength", "deviation", sigma, spread, spread < least),
        finding("noise repeats", "correlation", between, found, found > between),
        finding("noise returns", "correlation", within, echo, echo > within),
    ]


def correlation_limit(length: int, alarm: float) -> float:
    """Return what the correlation of two independent Gaussian vectors exceeds with probability ``alarm``.

    Exact: its square follows Beta(1/2, (length - 1) / 2).
    """
    from scipy.stats import beta

    return float(np.sqrt(beta.isf(alarm, 0.5, (length - 1) / 2)))


def echo_limit(length: int, alarm: float) -> float:
    """Return what the largest of a Gaussian vector's autocorrelations exceeds with probability ``alarm``."""
    from scipy.special import ndtri

    return float(-ndtri(alarm / (4.0 * length)) / np.sqrt(length))


def _largest_correlation(rows: Floats) -> float:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not bool((lengths > 0).all()):
        return 1.0
    unit = rows / lengths
    products = np.abs(unit @ unit.T)
    np.fill_diagonal(products, 0.0)
    return float(products.max())


def _largest_echo(row: Floats) -> float:
    power = float(np.square(row).sum())
    if power == 0.0:
        return 1.0
    spectrum = np.fft.rfft(row, 2 * len(row))
    echoes = np.fft.irfft(np.abs(spectrum) ** 2)[1 : len(row)]
    return float(np.abs(echoes).max() / power)


def _shortest(count: int, alarm: float) -> float:
    """Return the ratio of sample to true deviation that chance goes below with probability ``alarm``."""
    from scipy.stats import chi2

    return float(np.sqrt(chi2.ppf(alarm, count) / count))
