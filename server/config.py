"""What one federation is: read once, validated, hashed, and refused when it changes on resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from server.config_checks import FLOWER, OPTIMIZERS, check
from shared_model.config import load_toml, parse, to_dict
from shared_model.factorization import Factorization
from shared_model.mechanism import default_delta

__all__ = ["OPTIMIZERS", "FederationConfig"]


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
        probability ``over_selection * cohort / population``, which is what is accounted. Sums are
        divided by the *planned* cohort.
    over_selection
        So many times the cohort is asked, since some do not answer. Costs privacy where cohorts are
        random samples: the larger rate is charged.
    close_early
        Close a round before its deadline once the planned cohort is accepted; who answers later was
        "not needed". Under user-level noise with random cohorts the server looks at a *noised* count,
        and the round's noise pays for it (:mod:`server.closing`).
    close_looks, close_noise
        How many times it looks, at equal distances up to the deadline, and the standard deviation of
        the noise on each count; 0 means a twentieth of the cohort, but enough that all looks together
        cost 2 % of the noise.
    mode
        ``"rounds"``, or ``"buffered"``: devices are asked and answer at any time, and every ``cohort``
        accepted updates are one release (FedBuff; :mod:`server.buffered`). ``rounds`` then counts
        releases, ``deadline_s`` and ``quorum`` hold for each.
    max_staleness
        Buffered: an update that is more releases late is dropped; one that is s late weighs
        ``1 / sqrt(1 + s)``.
    concurrency
        Buffered: how many devices train at the same time; 0: the cohort.
    rest_s
        After an upload a device need not be there for so many seconds (and up to half as many more,
        drawn by itself); 0: it stays connected.
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
    top_k
        Share of an update's numbers that a device sends, the largest ones, with where they stand
        (:mod:`shared_model.sparse`); 1: all. What is left out is lost. Refused with secure aggregation,
        whose masked numbers must all be there.
    optimizer, server_lr
        What the server does with the noisy average.
    aggregation
        How replies become one update: ``"mean"`` (streamed: memory of one model), or ``"median"``,
        ``"trimmed-mean"``, ``"krum"``, ``"multi-krum"`` (:mod:`server.robust`) and ``"flower:NAME"``
        with a strategy of Flower that keeps nothing between rounds (:mod:`server.flower_rules`). All
        but the mean keep every reply of a round, 4 bytes a parameter each, and are refused under
        user-level noise, which fits sums only.
    trim
        ``"trimmed-mean"``: share cut off at either end of every number.
    malicious
        ``"krum"``, ``"multi-krum"``, Bulyan: share of the replies that may be malicious.
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
    over_selection: float = 1.0
    close_early: bool = False
    close_looks: int = 8
    close_noise: float = 0.0
    mode: str = "rounds"
    max_staleness: int = 4
    concurrency: int = 0
    rest_s: float = 0.0
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
    top_k: float = 1.0
    optimizer: str = "fedavg"
    server_lr: float = 1.0
    aggregation: str = "mean"
    trim: float = 0.2
    malicious: float = 0.2
    deadline_s: float = 600.0
    quorum: float = 0.5
    min_nodes: int = 2
    wait_s: float = 600.0
    seed: int = 0
    secure_aggregation: bool = False
    secure_neighbors: int = 0
    secure_collusion: float = 0.0

    def __post_init__(self) -> None:
        check(self)

    @property
    def factorization(self) -> Factorization | None:
        """The mechanism over all rounds where noise is correlated, else ``None``.

        Buffered: devices keep ``min_separation`` between the releases at which they are *asked*; one
        that answers late and then in time comes into releases that are ``max_staleness`` closer.
        """
        if self.mechanism != "factorized":
            return None
        return Factorization(self.rounds, self.min_separation - (self.max_staleness if self.buffered else 0))

    @property
    def buffered(self) -> bool:
        """Whether updates are released whenever enough have come."""
        return self.mode == "buffered"

    @property
    def sampled_noise(self) -> bool:
        """Whether the promise is user-level and rests on cohorts that are random samples."""
        return self.unit == "user" and not self.unprotected and self.mechanism == "sampled"

    @property
    def rule(self) -> str:
        """The aggregation without who computes it: ``"flower"`` for Flower's strategies."""
        return "flower" if self.aggregation.startswith(FLOWER) else self.aggregation

    @property
    def simulated(self) -> bool:
        """Whether the fleet stands for a larger, nominal one."""
        return self.simulated_population > 0

    @property
    def planned(self) -> int:
        """Devices planned per round here: the divisor of every sum."""
        return self.simulated_cohort if self.simulated else self.cohort

    @property
    def existing(self) -> int:
        """Devices that there are here."""
        return self.simulated_population if self.simulated else self.population

    @property
    def selected(self) -> int:
        """Devices asked per round here where their number is fixed, and expected where it is random."""
        return min(self.existing, math.ceil(self.over_selection * self.planned))

    @property
    def sample_rate(self) -> float:
        """Probability that a device of the (nominal) fleet is asked in a round."""
        return min(1.0, self.over_selection * self.cohort / self.population)

    @property
    def in_flight(self) -> int:
        """Buffered: devices that train at the same time."""
        return self.concurrency or self.planned

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
        """Name the keys in which ``other`` (a saved ``to_dict``) differs from this configuration.

        A key that an earlier version did not know had its default there.
        """
        mine, before = to_dict(self), {**_defaults(), **other}
        return tuple(sorted(key for key in mine.keys() | before.keys() if mine.get(key) != before.get(key)))

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Return the keys of a run-config, with hyphens."""
        return tuple(item.name.replace("_", "-") for item in fields(cls))


def _defaults() -> dict[str, Any]:
    return {item.name: item.default for item in fields(FederationConfig)}
