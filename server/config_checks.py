"""What a federation's settings must be, alone and together: refused with the reason, before anything runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared_model.config import ADVERSARIAL
from shared_model.errors import ConfigError
from shared_model.factorization import MECHANISMS
from shared_model.mechanism import LARGEST_DELTA, UNITS
from shared_model.messages import LONGEST_REST_S, UPLOADS
from shared_model.secure_terms import LEAST

if TYPE_CHECKING:
    from server.config import FederationConfig

__all__ = ["FLOWER", "FLOWER_RULES", "MODES", "OPTIMIZERS", "RULES", "check"]

OPTIMIZERS = ("fedadam", "fedavg", "fedavgm", "fedyogi")
MODES = ("buffered", "rounds")
#: How replies become one update; all but the mean need every reply of a round at once.
RULES = ("krum", "mean", "median", "multi-krum", "trimmed-mean")
#: The same by strategies of Flower that keep nothing between rounds, written ``flower:NAME``.
FLOWER = "flower:"
FLOWER_RULES = ("Bulyan", "FedAvg", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum")


def check(config: FederationConfig) -> None:
    """Refuse settings that are out of range or contradict each other.

    Raises
    ------
    ConfigError
        Naming the key.
    """
    _check_words(config)
    _check_numbers(config)
    _check_privacy(config)
    _check_simulation(config)
    _check_clip(config)
    _check_mechanism(config)
    _check_closing(config)
    _check_buffered(config)
    _check_aggregation(config)
    _check_secure(config)


def _check_words(config: FederationConfig) -> None:
    rules = (*RULES, *(FLOWER + name for name in FLOWER_RULES))
    for name, known in (
        ("unit", UNITS),
        ("mechanism", MECHANISMS),
        ("mode", MODES),
        ("upload", UPLOADS),
        ("optimizer", OPTIMIZERS),
        ("aggregation", rules),
        ("adversarial", ADVERSARIAL),
    ):
        if getattr(config, name) not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(config, name)!r}")


def _check_numbers(config: FederationConfig) -> None:
    for name in (
        "rounds",
        "population",
        "cohort",
        "records",
        "local_steps",
        "batch",
        "min_nodes",
        "min_separation",
        "close_looks",
    ):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {getattr(config, name)}")
    for name in ("clip", "record_clip", "learning_rate", "server_lr", "deadline_s", "wait_s", "clip_max"):
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be positive and finite, not {value}")
    for name in ("seed", "max_staleness", "concurrency"):
        if getattr(config, name) < 0:
            raise ConfigError(f"{name} must be 0 or more, not {getattr(config, name)}")
    if not 0.0 < config.top_k <= 1.0:
        raise ConfigError(f"top_k must be above 0 and at most 1, not {config.top_k}")
    if not 0.0 < config.quorum <= 1.0:
        raise ConfigError(f"quorum must be above 0 and at most 1, not {config.quorum}")
    if not 0.0 <= config.rest_s <= LONGEST_REST_S:
        raise ConfigError(f"rest_s must be from 0 to {LONGEST_REST_S:g}, not {config.rest_s}")
    if not 0.0 <= config.delta <= LARGEST_DELTA:
        raise ConfigError(
            f"delta must be 0 (chosen for you) to {LARGEST_DELTA:g}, not {config.delta}",
            hint="a larger delta would allow to publish somebody's data outright",
        )
    if config.cohort > config.population:
        raise ConfigError(f"cohort {config.cohort} is larger than population {config.population}")
    if config.batch > config.records and config.unit == "example":
        raise ConfigError(f"batch {config.batch} is larger than records {config.records}")


def _check_privacy(config: FederationConfig) -> None:
    for name in ("noise_multiplier", "target_epsilon"):
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be 0 or more and finite, not {value}")
    if config.unprotected:
        if config.noise_multiplier > 0:
            raise ConfigError("unprotected contradicts noise_multiplier", hint="give one of them")
    elif config.noise_multiplier == 0 and config.target_epsilon == 0:
        raise ConfigError(
            "neither target_epsilon nor noise_multiplier is given",
            hint="set target_epsilon, or unprotected = true for a baseline without any privacy",
        )


def _check_simulation(config: FederationConfig) -> None:
    if config.simulated_population == 0:
        if config.rescale_noise or config.simulated_cohort:
            raise ConfigError(
                "rescale_noise and simulated_cohort are for simulations only",
                hint="set simulated_population to the number of simulated devices",
            )
        return
    if config.unit != "user":
        raise ConfigError(
            "only user-level noise can be rescaled",
            hint="example-level noise is added on the devices: leave simulated_population at 0",
        )
    if not 1 <= config.simulated_cohort <= config.simulated_population:
        raise ConfigError(
            f"simulated_cohort must be between 1 and simulated_population ({config.simulated_population}), "
            f"not {config.simulated_cohort}"
        )
    if not config.rescale_noise:
        raise ConfigError(
            "simulated_population needs rescale_noise = true",
            hint="it says that the simulated run itself is not protected to the nominal epsilon",
        )
    if config.simulated_cohort > config.cohort:
        raise ConfigError(f"simulated_cohort {config.simulated_cohort} is larger than the nominal {config.cohort}")


def _check_clip(config: FederationConfig) -> None:
    if not 0.0 < config.clip_quantile < 1.0:
        raise ConfigError(f"clip_quantile must be between 0 and 1, not {config.clip_quantile}")
    if not 0.0 < config.clip_rate <= 2.0:
        raise ConfigError(f"clip_rate must be above 0 and at most 2, not {config.clip_rate}")
    if not (math.isfinite(config.count_noise) and config.count_noise >= 0):
        raise ConfigError(f"count_noise must be 0 or more and finite, not {config.count_noise}")
    if not config.adaptive_clip:
        if config.count_noise > 0:
            raise ConfigError("count_noise is for adaptive clipping", hint="set adaptive_clip = true")
        return
    if config.unit != "user":
        raise ConfigError("adaptive clipping is for unit 'user'")
    if config.clip > config.clip_max:
        raise ConfigError(f"clip {config.clip:g} is above clip_max {config.clip_max:g}")


def _check_mechanism(config: FederationConfig) -> None:
    if config.mechanism == "sampled":
        if config.min_separation != 1:
            raise ConfigError("min_separation is for correlated noise", hint='set mechanism = "factorized"')
        return
    if config.unit != "user":
        raise ConfigError("factorized noise is for unit 'user'")
    if config.adaptive_clip:
        raise ConfigError("factorized noise needs the same clip in every round", hint="adaptive_clip = false")
    apart = min(config.min_separation, config.rounds)
    training = config.in_flight if config.buffered else 0
    if config.selected * apart + training > config.existing:
        raise ConfigError(
            f"{config.existing} devices cannot give {config.selected} a round if each takes part once in "
            f"{config.min_separation}" + (f" and {training} train at any time" if training else ""),
            hint=f"lower min_separation to {max(1, (config.existing - training) // config.selected)}, or the cohort",
        )


def _check_closing(config: FederationConfig) -> None:
    """Over-selection, and closing a round before its deadline."""
    if not (math.isfinite(config.over_selection) and config.over_selection >= 1.0):
        raise ConfigError(f"over_selection must be 1 or more, not {config.over_selection}")
    if config.over_selection * config.cohort > config.population:
        raise ConfigError(
            f"over_selection {config.over_selection:g} asks {config.over_selection * config.cohort:g} devices of "
            f"only {config.population}"
        )
    if not (math.isfinite(config.close_noise) and config.close_noise >= 0.0):
        raise ConfigError(f"close_noise must be 0 or more and finite, not {config.close_noise}")
    if config.close_noise > 0.0 and not (config.close_early and config.sampled_noise):
        raise ConfigError(
            "close_noise is for cohorts that are random samples under user-level noise",
            hint="set close_early = true, or leave close_noise at 0",
        )
    if config.close_early and config.secure_aggregation:
        raise ConfigError(
            "a securely aggregated round cannot be closed early: every exchange waits for its own deadline",
            hint="close_early = false; lower deadline_s instead",
        )


def _check_buffered(config: FederationConfig) -> None:
    if not config.buffered:
        if config.concurrency:
            raise ConfigError("concurrency is for buffered rounds", hint='set mode = "buffered"')
        return
    for wrong, why in (
        (config.secure_aggregation, "secure aggregation needs all devices of a sum at the same time"),
        (config.adaptive_clip, "late updates were cut to an older clip: adaptive_clip = false"),
        (config.rule != "mean", f"late updates have smaller weights, which {config.aggregation} does not know"),
        (config.close_early or config.over_selection != 1.0, "a buffer is closed when it is full; set concurrency"),
    ):
        if wrong:
            raise ConfigError(f"mode 'buffered' cannot do this: {why}")
    if config.in_flight < config.planned:
        raise ConfigError(f"concurrency {config.concurrency} cannot fill a buffer of {config.planned}")
    if config.sampled_noise:
        raise ConfigError(
            "buffered updates come when they come: no random sample, so no amplification, can be accounted for",
            hint='set mechanism = "factorized" with min_separation above max_staleness',
        )
    if config.mechanism == "factorized" and config.min_separation <= config.max_staleness:
        raise ConfigError(
            f"an update may be {config.max_staleness} releases late, so two of one device that are asked "
            f"{config.min_separation} releases apart could meet in one release",
            hint="set min_separation above max_staleness",
        )


def _check_aggregation(config: FederationConfig) -> None:
    if not 0.0 <= config.trim < 0.5:
        raise ConfigError(f"trim must be at least 0 and below 0.5, not {config.trim}")
    if not 0.0 <= config.malicious < 0.5:
        raise ConfigError(f"malicious must be at least 0 and below 0.5, not {config.malicious}")
    if config.rule == "mean":
        return
    if config.unit == "user" and not config.unprotected:
        raise ConfigError(
            f"aggregation {config.aggregation!r} is no sum: one device can move it by more than the clip, so the "
            "noise on a sum does not hide anybody",
            hint='use "mean"; or unit = "example", where each device has added its own noise',
        )
    if config.secure_aggregation:
        raise ConfigError(f"aggregation {config.aggregation!r} looks at single replies, which are masked")


def _check_secure(config: FederationConfig) -> None:
    if not config.secure_aggregation:
        if config.secure_neighbors or config.secure_collusion:
            raise ConfigError("secure_neighbors and secure_collusion need secure_aggregation = true")
        return
    if config.adaptive_clip or config.mechanism != "sampled":
        raise ConfigError(
            "secure aggregation knows neither adaptive clipping nor noise that is correlated over rounds",
            hint="the devices add the noise; use a fixed clip and independent noise",
        )
    if config.top_k < 1.0:
        raise ConfigError(
            "secure aggregation masks every number of an update, so none can be left out",
            hint="top_k = 1, or secure_aggregation = false",
        )
    if config.planned < LEAST:
        raise ConfigError(
            f"secure aggregation hides nobody among {config.planned} devices",
            hint=f"plan a cohort of {LEAST} or more",
        )
    if config.secure_neighbors and (config.secure_neighbors % 2 or config.secure_neighbors < 4):
        raise ConfigError(f"secure_neighbors must be 0 or an even number from 4, not {config.secure_neighbors}")
    if not 0.0 <= config.secure_collusion <= 0.5:
        raise ConfigError(f"secure_collusion must be from 0 to 0.5, not {config.secure_collusion}")
