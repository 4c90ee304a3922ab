"""What the rounds of one federation cost, and the noise that pays for it.

In a simulation with rescaled noise two numbers are kept apart and always reported together: what
the *nominal* fleet would guarantee, and what the simulated run itself does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from server.closing import looks_noise
from server.config import FederationConfig
from shared_model.adaptive_clip import update_noise
from shared_model.discrete import lattice
from shared_model.mechanism import Mechanism
from shared_model.privacy import calibrate, epsilon, require_useful

__all__ = ["Budget", "solve_noise"]

_FEW_RECORDS = 200


@dataclass(frozen=True)
class Budget:
    """The privacy terms of one federation.

    Guarantees
    ----------
    Unit ``"user"``: the noise on the sum of one round has standard deviation :meth:`std` of the
    clip that this round's updates were cut to, whoever replies; with adaptive clipping the noise on
    the count has :attr:`count_std`, where rounds close early each look at the number of replies has
    :attr:`look_std`, and all of it together is one mechanism of the stated multiplier.
    After r charged rounds :meth:`epsilon` bounds the loss of one person in the (nominal) fleet and
    :meth:`run_epsilon` the loss in this very run. Unit ``"example"``: both bound the loss of one
    record of a device that joined every round.

    Assumes
    -------
    User level: the server is trusted to add the noise. ``"sampled"``: it keeps the cohorts secret,
    and devices are asked independently with probability ``over_selection * cohort / population``, or
    less where they rest (what is known of earlier rounds only lowers it). ``"factorized"``:
    no device takes part twice within ``min_separation`` rounds, and the keys of the noise stay
    secret. Buffered: when a device answers does not depend on its pictures. Which rounds were skipped
    for want of replies is not secret. Rescaled simulations: :meth:`run_epsilon` takes no credit for
    sampling.

    Edge cases
    ----------
    No rounds: 0. No noise: infinity.

    Parameters
    ----------
    config
        The federation.
    noise_multiplier
        As solved by :func:`solve_noise` or given.
    """

    config: FederationConfig
    noise_multiplier: float

    @property
    def mechanism(self) -> Mechanism:
        """One step as the (nominal) fleet runs it; ``"factorized"``: the whole run as one step."""
        config = self.config
        if config.unit == "example":
            return Mechanism(self.noise_multiplier, config.batch / config.records, "example")
        rate = 1.0 if config.mechanism == "factorized" else config.sample_rate
        return Mechanism(self.noise_multiplier, rate, "user")

    @property
    def run_mechanism(self) -> Mechanism:
        """One step as this run really does it."""
        if not self.config.simulated:
            return self.mechanism
        return Mechanism(self.noise_multiplier * self._scale, 1.0, "user")

    def std(self, clip: float) -> float:
        """Return the deviation of the noise on a round's sum of updates that were cut to ``clip``.

        ``"factorized"``: of the fresh noise z in it, before that of earlier rounds is taken back.
        """
        if self.config.unit == "example":
            return 0.0
        factorization = self.config.factorization
        sensitivity = factorization.sensitivity() if factorization else 1.0
        return self.update_noise * sensitivity * clip * self._scale

    @property
    def update_noise(self) -> float:
        """Multiplier of the noise on updates: a little more than announced if bits or looks are paid too."""
        announced = self.noise_multiplier
        if self.looks:
            announced /= math.sqrt(1.0 - self.looks * (announced / self.look_noise) ** 2)
        return update_noise(announced, self.count_noise) if self.config.adaptive_clip else announced

    @property
    def looks(self) -> int:
        """Noised looks at the number of replies that a round may take; 0 where there are none, or exact ones."""
        return self.config.close_looks if self.config.close_early and self.config.sampled_noise else 0

    @property
    def look_noise(self) -> float:
        """Deviation of the noise on the nominal fleet's number of replies, at each look."""
        if not self.looks:
            return 0.0
        config = self.config
        return looks_noise(self.noise_multiplier, cohort=config.cohort, looks=self.looks, given=config.close_noise)

    @property
    def look_std(self) -> float:
        """Deviation of the noise that this run adds to that number."""
        return self.look_noise * self._scale

    @property
    def count_noise(self) -> float:
        """Deviation of the noise on the nominal fleet's count of updates within the clip."""
        if not self.config.adaptive_clip or self.config.unprotected:
            return 0.0
        return self.config.count_noise or max(self.config.cohort / 20.0, self.noise_multiplier)

    @property
    def count_std(self) -> float:
        """Deviation of the noise that this run adds to that count."""
        return self.count_noise * self._scale

    @property
    def _scale(self) -> float:
        """What a simulation shrinks its noise by."""
        return self.config.simulated_cohort / self.config.cohort if self.config.simulated else 1.0

    def step(self, clip: float) -> float:
        """Return the lattice on which updates are summed (:func:`shared_model.discrete.lattice`); 0 without noise."""
        std = self.std(clip)
        return lattice(std) if std > 0.0 else 0.0

    def epsilon(self, rounds: int) -> float:
        """Epsilon of the (nominal) fleet after so many charged rounds."""
        return self._loss(self.mechanism, rounds)

    def run_epsilon(self, rounds: int) -> float:
        """Epsilon of this very run after so many charged rounds."""
        return self._loss(self.run_mechanism, rounds)

    def server_epsilon(self, rounds: int) -> float:
        """Epsilon that secure aggregation leaves against the server itself, for a device in all rounds.

        The server knows whom it asked, so sampling hides nobody from it. Infinite without secure
        aggregation at user level: the server then sees single updates.
        """
        if self.config.unit == "user" and not self.config.secure_aggregation:
            return math.inf if rounds else 0.0
        return self._loss(replace(self.run_mechanism, sample_rate=1.0), rounds)

    def statement(self, rounds: int, *, parameters: int, clips: Sequence[float] = ()) -> dict[str, Any]:
        """Say in JSON-ready values what is protected after ``rounds`` rounds, and what is not.

        Parameters
        ----------
        rounds
            Charged rounds.
        parameters
            Length of an update.
        clips
            The clip of each completed round, oldest first.
        """
        config = self.config
        nominal, real = self.epsilon(rounds), self.run_epsilon(rounds)
        facts: dict[str, Any] = {
            "unit": config.unit,
            "epsilon": nominal if math.isfinite(nominal) else None,
            "delta": config.effective_delta,
            "rounds_charged": rounds,
            "rounds_planned": config.rounds,
            "noise_multiplier": self.noise_multiplier,
            "mechanism": config.mechanism,
            "clip": config.clip if config.unit == "user" else config.record_clip,
            "adaptive_clip": config.adaptive_clip,
            "clips": list(clips) if config.unit == "user" else [],
            "population": config.population,
            "cohort": config.cohort,
            "over_selection": config.over_selection,
            "mode": config.mode,
            "sample_rate": self.mechanism.sample_rate,
            "parameters": parameters,
            "accountant": "PRV, upper bound; exact Gaussian without sampling",
            "simulated": config.simulated,
            "run_epsilon": real if math.isfinite(real) else None,
        }
        if config.adaptive_clip:
            facts |= {"update_noise_multiplier": self.update_noise, "count_noise": self.count_noise}
        if self.looks:
            facts |= {"update_noise_multiplier": self.update_noise, "looks": self.looks, "look_noise": self.look_noise}
        if config.factorization:
            facts |= {
                "min_separation": config.min_separation,
                "accounted_separation": config.factorization.separation,
                "participations": config.factorization.participations,
                "sensitivity": config.factorization.sensitivity(),
            }
        facts["says"] = self._sentence(nominal, real)
        if config.secure_aggregation and config.unit == "user" and not config.unprotected:
            alone = self.server_epsilon(rounds)
            facts["server_epsilon"] = alone if math.isfinite(alone) else None
            facts["says"] += (
                f" The server sees noisy sums only; against it, since it knows whom it asked, a device that took part "
                f"in every round has epsilon {alone:.3g}."
            )
        return facts

    def _sentence(self, nominal: float, real: float) -> str:
        config = self.config
        if config.unprotected:
            return "No privacy: this run trained without any noise."
        if config.unit == "example":
            return (
                f"One record of a device that joined every round is protected with epsilon {nominal:.3g} "
                f"(delta {config.effective_delta:.1g}); a person with many records is protected less."
            )
        text = f"One person is protected with epsilon {nominal:.3g} (delta {config.effective_delta:.1g})"
        if config.factorization:
            text += f" whoever is asked when, at most once in {config.min_separation} rounds,"
        if config.buffered:
            text += " for what it sent, not for when,"
        if not config.simulated:
            return text + f" among {config.population} devices, {config.cohort} a round."
        shown = f"{real:.3g}" if math.isfinite(real) else "unbounded"
        return (
            f"{text} in the nominal fleet of {config.population} devices, {config.cohort} a round, which this run "
            f"imitates with {config.simulated_population}. The simulated run itself is NOT protected so: its noise is "
            f"scaled down by {config.simulated_cohort}/{config.cohort}, and its own epsilon is {shown}."
        )

    def _loss(self, mechanism: Mechanism, rounds: int) -> float:
        factorization = self.config.factorization
        if factorization:
            spent = factorization.mechanism(mechanism.noise_multiplier, min(rounds, self.config.rounds))
            return _epsilon(spent, 1, self.config.effective_delta)
        steps = rounds if self.config.unit == "user" else rounds * self.config.local_steps
        return _epsilon(mechanism, steps, self.config.effective_delta)

    def warning(self, *, parameters: int) -> str:
        """Say why the fleet, or a site, is too small to learn well; empty when it is not.

        Raises
        ------
        PrivacyError
            If noise would drown everything and the configuration does not accept that.
        """
        config = self.config
        if config.unit == "example":
            return self._advice()
        factorization = config.factorization
        noise = factorization.comparable_noise(self.noise_multiplier) if factorization else self.update_noise
        return require_useful(
            noise_multiplier=noise,
            cohort=config.cohort,
            population=config.population,
            parameters=parameters,
            accept=config.accept_loud_noise,
        )

    def _advice(self) -> str:
        """Point a small site to full-batch steps, and say what its guarantee is worth."""
        config = self.config
        if config.unprotected or config.records > _FEW_RECORDS:
            return ""
        text = (
            f"{config.records} records a device: clipping and noise with a weak formal guarantee for each record, "
            "none for a person"
        )
        if config.batch == config.records:
            return text
        steps = max(1, config.local_steps * config.batch // config.records)
        return (
            f"{text}; full-batch steps need no sampling and have no empty batches: "
            f"batch = {config.records} with local_steps = {steps} takes the same time"
        )


@lru_cache(maxsize=256)
def _epsilon(mechanism: Mechanism, steps: int, delta: float) -> float:
    """Remember what was computed: each takes up to a second, and a round asks for it several times."""
    return epsilon([(mechanism, steps)], delta=delta)


def solve_noise(config: FederationConfig) -> float:
    """Return the noise multiplier of a federation: given, solved for its target, or 0 if unprotected.

    Raises
    ------
    PrivacyError
        If no noise reaches the target.
    """
    if config.unprotected:
        return 0.0
    if config.noise_multiplier > 0:
        return config.noise_multiplier
    probe = Budget(config, 1.0)
    steps = config.rounds if config.unit == "user" else config.rounds * config.local_steps
    return calibrate(
        target_epsilon=config.target_epsilon,
        delta=config.effective_delta,
        sample_rate=probe.mechanism.sample_rate,
        steps=1 if config.factorization else steps,
    )
