"""What one federation is: read once, validated, hashed, and refused when it changes on resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shared_model.config import ADVERSARIAL, load_toml, parse, to_dict
from shared_model.errors import ConfigError
from shared_model.factorization import MECHANISMS, Factorization
from shared_model.mechanism import LARGEST_DELTA, UNITS, default_delta
from shared_model.messages import UPLOADS
from shared_model.secure_terms import LEAST

__all__ = ["OPTIMIZERS", "FederationConfig"]

OPTIMIZERS = ("fedadam", "fedavg", "fedavgm")


@dataclass(frozen=True)
class FederationConfig:
    """Settings of one federation.

    Parameters
    ----------
    rounds
        How many rounds; the noise is calibrated for all of them.
    unit
        ``"user"`` (default: the whole person is protected, noise on the sum) or ``"example"`` (one
        record is protected, DP-SGD on the device).
    population, cohort
        Devices of the fleet and devices planned per round; every connected device is asked with
        probability ``cohort / population``. Sums are divided by the *planned* cohort.
    mechanism
        ``"sampled"``: cohorts are secret random samples, and each round has noise of its own.
        ``"factorized"``: devices may come as they like, but at most once in ``min_separation``
        rounds; the noise is correlated over the rounds (:mod:`shared_model.factorization`).
    min_separation
        Rounds from one participation of a device to its next, at least; ``"factorized"`` only.
        Devices enforce it themselves.
    clip
        L2 bound of a device's whole update; with ``adaptive_clip`` that of the first round.
    adaptive_clip
        Let the clip follow the lengths of the updates (:mod:`shared_model.adaptive_clip`).
    clip_quantile, clip_rate
        Share of the updates that is to be within the clip, and how fast the clip gets there.
    clip_max
        The clip never grows above this; devices refuse more than their owners' ``max_clip``.
    count_noise
        Standard deviation of the noise on the number of updates within the clip; 0 means a
        twentieth of the cohort, but at least the noise multiplier.
    record_clip
        L2 bound of one record's gradient; unit ``"example"`` only.
    target_epsilon, noise_multiplier
        Give one of them: the noise is solved for the target when ``noise_multiplier`` is 0.
    unprotected
        Train with no noise at all (a baseline; epsilon is reported as infinite).
    accept_loud_noise
        Go on although the fleet is so small that noise drowns what it learns.
    delta
        0 means :func:`shared_model.mechanism.default_delta` of the population or of the records;
        never above 1e-5.
    records
        Public number of records per device; unit ``"example"`` only, for its sampling rate
        ``batch / records``. ``batch = records`` makes full-batch steps, the better choice up to
        about 200 records: no sampling to trust, no empty batches.
    simulated_population, simulated_cohort
        For simulations only: the devices that really exist, and how many of them join a round.
        ``population`` and ``cohort`` then describe the *nominal* fleet.
    rescale_noise
        Must be set with ``simulated_population``: the noise on the sum is scaled by
        ``simulated_cohort / cohort``, so that the average is as noisy as the nominal fleet's
        (pfl-research, Granqvist et al. 2024). The simulated run itself is then NOT protected to the
        nominal epsilon, and both numbers are always reported.
    local_steps, batch, learning_rate
        Training on a device.
    adversarial
        Adversarial loss, one of :data:`shared_model.config.ADVERSARIAL`.
    upload
        Number format of an update on the wire: ``"int8"`` or ``"float16"``.
    optimizer, server_lr
        What the server does with the noisy average.
    deadline_s
        Replies later than this are dropped.
    quorum
        Share of the planned cohort that must be accepted; below it the round is skipped.
    min_nodes, wait_s
        Wait for this many connected devices before each round, at most so long.
    seed
        Seed of public draws and of the cohorts of a simulation; never of noise.
    secure_aggregation
        Devices mask their updates and add the noise themselves, so that the server sees only the
        noisy sum (docs/federation.md). ``quorum`` then also says how many dropouts the noise allows
        for; ``upload`` is not used, a masked number takes four bytes.
    secure_neighbors
        With how many others a device shares secrets, an even number; 0: with all of its cohort.
        For cohorts above about 100.
    secure_collusion
        Share of the quorum that may pool what it knows with the server without weakening the noise.
    """

    rounds: int = 10
    unit: str = "user"
    population: int = 100_000
    cohort: int = 1_000
    mechanism: str = "sampled"
    min_separation: int = 1
    clip: float = 1.0
    adaptive_clip: bool = False
    clip_quantile: float = 0.5
    clip_rate: float = 0.2
    clip_max: float = 10.0
    count_noise: float = 0.0
    record_clip: float = 1.0
    target_epsilon: float = 2.0
    noise_multiplier: float = 0.0
    unprotected: bool = False
    accept_loud_noise: bool = False
    delta: float = 0.0
    records: int = 16
    simulated_population: int = 0
    simulated_cohort: int = 0
    rescale_noise: bool = False
    local_steps: int = 10
    batch: int = 4
    learning_rate: float = 1e-3
    adversarial: str = "hinge"
    upload: str = "int8"
    optimizer: str = "fedavg"
    server_lr: float = 1.0
    deadline_s: float = 600.0
    quorum: float = 0.5
    min_nodes: int = 2
    wait_s: float = 600.0
    seed: int = 0
    secure_aggregation: bool = False
    secure_neighbors: int = 0
    secure_collusion: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (
            ("unit", UNITS),
            ("mechanism", MECHANISMS),
            ("upload", UPLOADS),
            ("optimizer", OPTIMIZERS),
            ("adversarial", ADVERSARIAL),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in (
            "rounds",
            "population",
            "cohort",
            "records",
            "local_steps",
            "batch",
            "min_nodes",
            "min_separation",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("clip", "record_clip", "learning_rate", "server_lr", "deadline_s", "wait_s", "clip_max"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be positive and finite, not {value}")
        if not 0.0 < self.quorum <= 1.0:
            raise ConfigError(f"quorum must be above 0 and at most 1, not {self.quorum}")
        if not 0.0 <= self.delta <= LARGEST_DELTA:
            raise ConfigError(
                f"delta must be 0 (chosen for you) to {LARGEST_DELTA:g}, not {self.delta}",
                hint="a larger delta would allow to publish somebody's data outright",
            )
        if self.cohort > self.population:
            raise ConfigError(f"cohort {self.cohort} is larger than population {self.population}")
        if self.batch > self.records and self.unit == "example":
            raise ConfigError(f"batch {self.batch} is larger than records {self.records}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, not {self.seed}")
        self._check_privacy()
        self._check_simulation()
        self._check_clip()
        self._check_mechanism()
        self._check_secure()

    def _check_privacy(self) -> None:
        for name in ("noise_multiplier", "target_epsilon"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be 0 or more and finite, not {value}")
        if self.unprotected:
            if self.noise_multiplier > 0:
                raise ConfigError("unprotected contradicts noise_multiplier", hint="give one of them")
        elif self.noise_multiplier == 0 and self.target_epsilon == 0:
            raise ConfigError(
                "neither target_epsilon nor noise_multiplier is given",
                hint="set target_epsilon, or unprotected = true for a baseline without any privacy",
            )

    def _check_simulation(self) -> None:
        if self.simulated_population == 0:
            if self.rescale_noise or self.simulated_cohort:
                raise ConfigError(
                    "rescale_noise and simulated_cohort are for simulations only",
                    hint="set simulated_population to the number of simulated devices",
                )
            return
        if self.unit != "user":
            raise ConfigError(
                "only user-level noise can be rescaled",
                hint="example-level noise is added on the devices: leave simulated_population at 0",
            )
        if not 1 <= self.simulated_cohort <= self.simulated_population:
            raise ConfigError(
                f"simulated_cohort must be between 1 and simulated_population ({self.simulated_population}), "
                f"not {self.simulated_cohort}"
            )
        if not self.rescale_noise:
            raise ConfigError(
                "simulated_population needs rescale_noise = true",
                hint="it says that the simulated run itself is not protected to the nominal epsilon",
            )
        if self.simulated_cohort > self.cohort:
            raise ConfigError(f"simulated_cohort {self.simulated_cohort} is larger than the nominal {self.cohort}")

    def _check_clip(self) -> None:
        if not 0.0 < self.clip_quantile < 1.0:
            raise ConfigError(f"clip_quantile must be between 0 and 1, not {self.clip_quantile}")
        if not 0.0 < self.clip_rate <= 2.0:
            raise ConfigError(f"clip_rate must be above 0 and at most 2, not {self.clip_rate}")
        if not (math.isfinite(self.count_noise) and self.count_noise >= 0):
            raise ConfigError(f"count_noise must be 0 or more and finite, not {self.count_noise}")
        if not self.adaptive_clip:
            if self.count_noise > 0:
                raise ConfigError("count_noise is for adaptive clipping", hint="set adaptive_clip = true")
            return
        if self.unit != "user":
            raise ConfigError("adaptive clipping is for unit 'user'")
        if self.clip > self.clip_max:
            raise ConfigError(f"clip {self.clip:g} is above clip_max {self.clip_max:g}")

    def _check_mechanism(self) -> None:
        if self.mechanism == "sampled":
            if self.min_separation != 1:
                raise ConfigError("min_separation is for correlated noise", hint='set mechanism = "factorized"')
            return
        if self.unit != "user":
            raise ConfigError("factorized noise is for unit 'user'")
        if self.adaptive_clip:
            raise ConfigError("factorized noise needs the same clip in every round", hint="adaptive_clip = false")
        there, asked = self.population, self.cohort
        if self.simulated:
            there, asked = self.simulated_population, self.simulated_cohort
        if asked * min(self.min_separation, self.rounds) > there:
            raise ConfigError(
                f"{there} devices cannot give {asked} a round if each takes part once in {self.min_separation}",
                hint=f"lower min_separation to {max(1, there // asked)}, or the cohort",
            )

    def _check_secure(self) -> None:
        if not self.secure_aggregation:
            if self.secure_neighbors or self.secure_collusion:
                raise ConfigError("secure_neighbors and secure_collusion need secure_aggregation = true")
            return
        if self.adaptive_clip or self.mechanism != "sampled":
            raise ConfigError(
                "secure aggregation knows neither adaptive clipping nor noise that is correlated over rounds",
                hint="the devices add the noise; use a fixed clip and independent noise",
            )
        if self.planned < LEAST:
            raise ConfigError(
                f"secure aggregation hides nobody among {self.planned} devices",
                hint=f"plan a cohort of {LEAST} or more",
            )
        if self.secure_neighbors and (self.secure_neighbors % 2 or self.secure_neighbors < 4):
            raise ConfigError(f"secure_neighbors must be 0 or an even number from 4, not {self.secure_neighbors}")
        if not 0.0 <= self.secure_collusion <= 0.5:
            raise ConfigError(f"secure_collusion must be from 0 to 0.5, not {self.secure_collusion}")

    @property
    def factorization(self) -> Factorization | None:
        """The mechanism over all rounds where noise is correlated, else ``None``."""
        return Factorization(self.rounds, self.min_separation) if self.mechanism == "factorized" else None

    @property
    def simulated(self) -> bool:
        """Whether the fleet stands for a larger, nominal one."""
        return self.simulated_population > 0

    @property
    def planned(self) -> int:
        """Devices planned per round here: the divisor of every sum."""
        return self.simulated_cohort if self.simulated else self.cohort

    @property
    def needed(self) -> int:
        """Accepted updates below which a round is skipped."""
        return max(1, math.ceil(self.quorum * self.planned))

    @property
    def effective_delta(self) -> float:
        """The delta of the promise, with the default filled in."""
        if self.delta > 0:
            return self.delta
        return default_delta(self.population if self.unit == "user" else self.records)

    @classmethod
    def from_run_config(cls, values: Mapping[str, Any]) -> FederationConfig:
        """Read a Flower ``run_config``: flat keys, written with hyphens.

        Keys that say *where* instead of *what* (``run-dir``, ``devices-dir``, ``backbone``) are the
        app's own and must be taken out before.
        """
        plain = {key.replace("-", "_"): value for key, value in values.items()}
        return parse(plain, cls, source="run-config")

    @classmethod
    def load(cls, path: Path | str) -> FederationConfig:
        """Read a TOML file with these keys, spelled as the fields are."""
        return load_toml(path, cls)

    def differences(self, other: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the keys in which ``other`` (a saved ``to_dict``) differs from this configuration."""
        mine = to_dict(self)
        return tuple(sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key)))

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Return the keys of a run-config, with hyphens."""
        return tuple(item.name.replace("_", "-") for item in fields(cls))
