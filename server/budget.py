"""What the rounds of one federation cost, and the noise that pays for it.

In a simulation with rescaled noise two numbers are kept apart and always reported together: what
the *nominal* fleet would guarantee, and what the simulated run itself does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from server.config import FederationConfig
from shared_model.discrete import lattice
from shared_model.mechanism import Mechanism
from shared_model.privacy import calibrate, epsilon, require_useful

__all__ = ["Budget", "solve_noise"]


@dataclass(frozen=True)
class Budget:
    """The privacy terms of one federation.

    Guarantees
    ----------
    Unit ``"user"``: the noise on the sum of one round has standard deviation :attr:`std`; after r
    charged rounds :meth:`epsilon` bounds the loss of one person in the (nominal) fleet and
    :meth:`run_epsilon` the loss in this very run. Unit ``"example"``: both bound the loss of one
    record of a device that joined every round.

    Assumes
    -------
    User level: the server is trusted to add the noise and to keep the cohorts secret; devices are
    asked independently with probability ``cohort / population``; which rounds were skipped for
    want of replies is not secret. Rescaled simulations: :meth:`run_epsilon` takes no credit for
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
        """One step as the (nominal) fleet runs it."""
        config = self.config
        if config.unit == "user":
            return Mechanism(self.noise_multiplier, config.cohort / config.population, "user")
        return Mechanism(self.noise_multiplier, config.batch / config.records, "example")

    @property
    def run_mechanism(self) -> Mechanism:
        """One step as this run really does it."""
        if not self.config.simulated:
            return self.mechanism
        scale = self.config.simulated_cohort / self.config.cohort
        return Mechanism(self.noise_multiplier * scale, 1.0, "user")

    @property
    def std(self) -> float:
        """Standard deviation of the noise that the server adds to the sum of a round."""
        if self.config.unit == "example":
            return 0.0
        return self.run_mechanism.noise_multiplier * self.config.clip

    @property
    def step(self) -> float:
        """Lattice on which updates are summed (:func:`shared_model.discrete.lattice`); 0 where no noise is added."""
        return lattice(self.std) if self.std > 0.0 else 0.0

    def epsilon(self, rounds: int) -> float:
        """Epsilon of the (nominal) fleet after so many charged rounds."""
        return self._loss(self.mechanism, rounds)

    def run_epsilon(self, rounds: int) -> float:
        """Epsilon of this very run after so many charged rounds."""
        return self._loss(self.run_mechanism, rounds)

    def statement(self, rounds: int, *, parameters: int) -> dict[str, Any]:
        """Say in JSON-ready values what is protected after ``rounds`` rounds, and what is not."""
        config = self.config
        nominal, real = self.epsilon(rounds), self.run_epsilon(rounds)
        facts: dict[str, Any] = {
            "unit": config.unit,
            "epsilon": nominal if math.isfinite(nominal) else None,
            "delta": config.effective_delta,
            "rounds_charged": rounds,
            "rounds_planned": config.rounds,
            "noise_multiplier": self.noise_multiplier,
            "clip": config.clip if config.unit == "user" else config.record_clip,
            "population": config.population,
            "cohort": config.cohort,
            "sample_rate": self.mechanism.sample_rate,
            "parameters": parameters,
            "accountant": "PRV, upper bound; exact Gaussian without sampling",
            "simulated": config.simulated,
            "run_epsilon": real if math.isfinite(real) else None,
        }
        facts["says"] = self._sentence(nominal, real)
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
        if not config.simulated:
            return text + f" among {config.population} devices, {config.cohort} a round."
        shown = f"{real:.3g}" if math.isfinite(real) else "unbounded"
        return (
            f"{text} in the nominal fleet of {config.population} devices, {config.cohort} a round, which this run "
            f"imitates with {config.simulated_population}. The simulated run itself is NOT protected so: its noise is "
            f"scaled down by {config.simulated_cohort}/{config.cohort}, and its own epsilon is {shown}."
        )

    def _loss(self, mechanism: Mechanism, rounds: int) -> float:
        steps = rounds if self.config.unit == "user" else rounds * self.config.local_steps
        return _epsilon(mechanism, steps, self.config.effective_delta)

    def warning(self, *, parameters: int) -> str:
        """Say why the fleet is too small to learn well; empty when it is not.

        Raises
        ------
        PrivacyError
            If noise would drown everything and the configuration does not accept that.
        """
        config = self.config
        if config.unit != "user":
            return ""
        return require_useful(
            noise_multiplier=self.noise_multiplier,
            cohort=config.cohort,
            population=config.population,
            parameters=parameters,
            accept=config.accept_loud_noise,
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
        steps=steps,
    )
