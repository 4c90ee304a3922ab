"""What server and devices say to each other in a securely aggregated round: four stages, public terms.

``keys``
    The server announces the round; a device answers with two fresh public keys.
``shares``
    It receives its neighbors' keys; it answers with shares of its two secrets, sealed for each of them.
``masked``
    It receives the backbone and the shares meant for it, trains, and answers with its update, noise
    added, under masks.
``open``
    It learns whose masked updates arrived and answers with shares: of the own mask of those that
    did, of the mask key of those that did not. Never both for one device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from shared_model.config import parse
from shared_model.errors import ConfigError
from shared_model.secure_sum import Ring

__all__ = ["LEAST", "SECURE", "STAGES", "SecureTerms", "threshold"]

#: Name of a stage's values in a message, beside ``shared_model.messages.SETTINGS``.
SECURE = "secure"
STAGES = ("keys", "shares", "masked", "open")
#: Fewer devices than this hide nobody: of two, each knows the other's part of the sum.
LEAST = 3

Plain = str | int | float | bool


@dataclass(frozen=True)
class SecureTerms:
    """The public terms of one attempt at one round.

    Parameters
    ----------
    attempt
        Fresh name, so that a repeated round shares no key, mask or noise with an earlier attempt.
    capacity
        Devices asked: the most that can be summed.
    needed
        Fewer masked updates than this are never opened. Noise shares are sized for it.
    colluding
        Of those, how many may pool what they know with the server without weakening the promise.
    sum_noise
        Standard deviation that the noise on the sum has at least; 0 for none.
    """

    attempt: str
    capacity: int
    needed: int
    colluding: int
    sum_noise: float

    def __post_init__(self) -> None:
        if not (8 <= len(self.attempt) <= 64 and self.attempt.isalnum()):
            raise ConfigError("attempt must be 8 to 64 letters and digits")
        if not LEAST <= self.needed <= self.capacity:
            raise ConfigError(
                f"secure aggregation needs {LEAST} devices or more: needed is {self.needed}, asked {self.capacity}"
            )
        if not 0 <= self.colluding <= self.needed - 2:
            raise ConfigError(f"{self.colluding} colluding devices of {self.needed} leave nobody to hide among")
        if not (math.isfinite(self.sum_noise) and self.sum_noise >= 0.0):
            raise ConfigError(f"sum_noise must be 0 or more and finite, not {self.sum_noise}")

    @property
    def share_std(self) -> float:
        """Standard deviation of one device's share of the noise.

        Those of ``needed - colluding`` devices alone reach :attr:`sum_noise`; whoever answers on top
        makes the noise larger, never smaller.
        """
        return self.sum_noise / math.sqrt(self.needed - self.colluding)

    def ring(self, *, size: int, clip: float) -> Ring:
        """Return the grid of this round.

        Raises
        ------
        PrivacyError
            If so many devices do not fit.
        """
        return Ring(size=size, capacity=self.capacity, clip=clip, share_std=self.share_std)

    def context(self, run: str, round: int) -> str:
        """Name this attempt, for masks and commitments."""
        return f"{run}/{round}/{self.attempt}"

    def to_values(self) -> dict[str, Plain]:
        """Return the terms as a flat mapping."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> SecureTerms:
        """Read what :meth:`to_values` wrote; other keys of the stage are left out by the caller.

        Raises
        ------
        ConfigError
            If a value is missing, unknown, of the wrong type or out of range.
        """
        return parse(values, cls, source="terms of secure aggregation")


def threshold(holders: int) -> int:
    """Return how many of a secret's ``holders`` must give their shares to restore it: about two thirds.

    More than half, so that a server that tells half of the devices one thing and half another
    cannot restore both secrets of a device.
    """
    return holders * 3 // 5 + 1
