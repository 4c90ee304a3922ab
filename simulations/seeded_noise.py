"""Privacy noise that can be repeated: for tests of the machinery, and NOT PRIVATE.

Whoever knows the seed can subtract the noise. Nothing outside a simulation imports this, and an experiment
that uses it says so in its warnings, its marker and its pages.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

from torch import Tensor

from shared_model.noise import secure_normal

__all__ = ["SeededNoise"]


class SeededNoise:
    """Noise and entropy of the server that depend on a seed and the round alone, so that a resumed run repeats them.

    Parameters
    ----------
    seed
        Known to whoever reads the experiment: the noise protects nobody.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._round, self._drawn = seed, 0, 0

    def go_to(self, round: int) -> None:
        """Begin the noise of the round after ``round``."""
        self._round, self._drawn = round, 0

    def normal(self, shape: tuple[int, ...] | Sequence[int], *, std: float) -> Tensor:
        """Return noise as :func:`shared_model.noise.secure_normal` does."""
        return functools.partial(secure_normal, entropy=self.entropy)(shape, std=std)

    def entropy(self, count: int) -> bytes:
        """Return the next ``count`` bytes of the round."""
        self._drawn += 1
        return hashlib.shake_256(f"not private/{self._seed}/{self._round}/{self._drawn}".encode()).digest(count)
