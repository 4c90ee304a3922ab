"""A clip that follows the updates: a noised count of short updates moves it (Andrew et al. 2021).

Each device says in one bit whether its update was within the clip. The server adds the bits, adds
noise to that sum as it does to the sum of the updates, and multiplies the clip by
``exp(-rate * (share - quantile))``, so that it drifts to the wanted quantile of the lengths
(Andrew, Thakkar, McMahan and Ramaswamy, arXiv 1905.03871, section 3). Part of the round's noise pays for
the bit: the updates get a little more than the announced multiplier.
"""

from __future__ import annotations

import math

from shared_model.errors import PrivacyError

__all__ = ["SMALLEST", "joint_noise", "next_clip", "share_within", "update_noise"]

#: The clip never falls below this.
SMALLEST = 1e-6


def update_noise(noise_multiplier: float, count_std: float) -> float:
    """Return the noise multiplier z_delta of the updates when the bits are noised too.

    Guarantees
    ----------
    Updates noised with ``z_delta * clip`` and the sum of bits with ``count_std`` are together one
    Gaussian mechanism of multiplier ``noise_multiplier``: a bit counts -1/2 or +1/2, so one unit
    moves the pair, in units of its noise, by at most
    ``sqrt(z_delta**-2 + (2 count_std)**-2) = 1 / noise_multiplier``.

    Assumes
    -------
    A unit that is absent counts 0, neither -1/2 nor +1/2; the clip is the one that the updates
    were clipped to and was fixed before the round.

    Edge cases
    ----------
    No noise at all: 0.

    Parameters
    ----------
    noise_multiplier
        The announced z, which the accountant uses.
    count_std
        Standard deviation of the noise on the sum of bits.

    Raises
    ------
    PrivacyError
        If the bits alone would cost more than everything may.
    """
    if noise_multiplier == 0.0 and count_std == 0.0:
        return 0.0
    if not 2.0 * count_std > noise_multiplier:
        raise PrivacyError(
            f"noise of {count_std:g} on the count of short updates is too little for a noise multiplier of "
            f"{noise_multiplier:g}: it must be above {noise_multiplier / 2:g}",
            hint="raise count_noise, or leave it at 0 to have it chosen",
        )
    return noise_multiplier / math.sqrt(1.0 - (noise_multiplier / (2.0 * count_std)) ** 2)


def joint_noise(update_multiplier: float, count_std: float) -> float:
    """Return the multiplier of updates and bits together: what :func:`update_noise` inverts."""
    if update_multiplier == 0.0 or count_std == 0.0:
        return 0.0
    return 1.0 / math.sqrt(update_multiplier**-2 + (2.0 * count_std) ** -2)


def share_within(noisy_sum: float, planned: int) -> float:
    """Turn the noised sum of -1/2 and +1/2 into a share of the planned cohort.

    Who is absent counts as half: missing replies slow the clip down, they do not move it by
    themselves when the quantile is 0.5. Noise can carry the share outside 0 to 1.
    """
    return 0.5 + noisy_sum / planned


def next_clip(clip: float, share: float, *, quantile: float, rate: float, largest: float) -> float:
    """Move the clip towards the quantile, within (:data:`SMALLEST`, ``largest``).

    Where more updates than wanted are cut (the share within is below the quantile) it grows.

    Raises
    ------
    PrivacyError
        If the share is not finite.
    """
    if not math.isfinite(share):
        raise PrivacyError(f"the share of short updates is {share}")
    exponent = max(-30.0, min(30.0, -rate * (share - quantile)))
    return max(SMALLEST, min(largest, clip * math.exp(exponent)))
