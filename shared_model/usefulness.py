"""Is a fleet large enough that noise leaves something to learn? Numbers, not small print."""

from __future__ import annotations

import math

from shared_model.errors import PrivacyError

__all__ = ["noise_to_signal", "require_useful", "usefulness"]

_SMALL_POPULATION = 10_000
_LOUD_NOISE = 2.0
_DROWNING_NOISE = 10.0


def noise_to_signal(noise_multiplier: float, cohort: int, parameters: int) -> float:
    """L2 norm of the noise in an averaged update, in units of the clipping bound.

    A single update has norm at most 1 in these units; an average of agreeing updates too.
    Below about 0.3 the noise does not show; above 1 most of what was learned is lost (the
    server's averaging over rounds helps by about the square root of their number).

    Parameters
    ----------
    noise_multiplier
        Of the sum.
    cohort
        Planned number of updates in a round, the divisor; at least 1.
    parameters
        Length of the update.
    """
    if cohort < 1 or parameters < 0:
        raise PrivacyError(f"a cohort has at least 1 device, not {cohort}")
    return noise_multiplier * math.sqrt(parameters) / cohort


def usefulness(*, noise_multiplier: float, cohort: int, population: int, parameters: int) -> str:
    """Say in one sentence why a fleet is too small for useful private training; empty if it is not.

    A warning is due when the population is below ten thousand devices or the noise in a round's
    average is longer than twice the clipping bound.
    """
    ratio = noise_to_signal(noise_multiplier, cohort, parameters)
    if ratio <= _LOUD_NOISE and (population >= _SMALL_POPULATION or noise_multiplier == 0.0):
        return ""
    needed = math.ceil(noise_multiplier * math.sqrt(parameters))
    return (
        f"{population} devices, {cohort} a round: the noise in a round's average is {ratio:.2g} times as long as the "
        f"longest update it hides ({parameters} parameters, noise multiplier {noise_multiplier:.3g}); user-level "
        f"privacy learns well from about {_SMALL_POPULATION} devices on, with about {needed} in each round"
    )


def require_useful(
    *, noise_multiplier: float, cohort: int, population: int, parameters: int, accept: bool = False
) -> str:
    """Refuse a fleet in which noise would drown learning, unless the operator accepts it.

    Returns
    -------
    str
        The warning of `usefulness`, to be shown; empty when all is well.

    Raises
    ------
    PrivacyError
        If the noise is more than ten times as long as an update and ``accept`` is False.
    """
    warning = usefulness(noise_multiplier=noise_multiplier, cohort=cohort, population=population, parameters=parameters)
    if noise_to_signal(noise_multiplier, cohort, parameters) > _DROWNING_NOISE and not accept:
        raise PrivacyError(
            warning,
            hint="enlarge the cohort, use example-level privacy between a few trusted sites, "
            "or accept it with accept_loud_noise = true",
        )
    return warning
