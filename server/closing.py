"""When a round may end before its deadline: at few public moments, by a count that is noised.

Asking more devices than planned and keeping the first answers looks harmless: leaving a device out
changes a sum by no more than its clip. But a device that is *there* then pushes the last one out, so
with it and without it the sums differ by two updates, up to twice the clip, and noise for one clip
under-protects. So where a promise rests on random cohorts, nothing counts replies exactly: at a few
moments the server looks at their number plus Gaussian noise and closes when that reaches the planned
cohort. Once the moment of closing is public (it is a noised output like others), who is in the sum is
decided by each device's own time alone.

Guarantees
    ``"sampled"`` at user level: all looks of a round and its sum together are one Gaussian mechanism of
    the announced multiplier z, for a device that is added or removed, whatever it sends and whenever.
    It changes each count by at most 1 and the sum by at most the clip, so in units of the noise all of
    it by at most sqrt(looks / s^2 + z_u^-2) = 1 / z, with s the noise on a count and z_u that of the
    updates (:func:`looks_noise`), which is therefore a little more than z. Looks are an adaptive
    composition of Gaussian mechanisms; sampling amplifies the whole round (the probability of being
    *asked*, over-selection included, is what is accounted). A look counts everything that had
    arrived at its moment.
    Elsewhere the count is exact and free. Without user-level noise there is nothing to protect from it.
    ``"factorized"``: neighbors there differ in *what* a device sent and not in when
    (:class:`shared_model.factorization.Factorization`: its update or zeros), so it keeps its place.
Assumes
    One device does not slow the others down; ``"factorized"``: how long a device takes does not depend
    on its pictures (work is a fixed number of steps). The operator's counts of who answered are not
    released.
Edge cases
    A crash in the middle of a round: whoever watched knows that some looks did not close it. The round's
    repetition makes none and waits for its deadline, so a round never looks more often than is paid for.
    Looks and sum then have cohorts of their own, drawn independently, which reveals no more than one
    cohort for both: every moment E[(P/Q)^n] is, over the n coins of a device, a product of two growing
    functions, whose mean over shared coins is at least the product of their means (Harris 1960).
    Fewer replies than planned: the deadline closes the round. All have answered: it ends at once, which
    leaves nobody out. Noise may close a little early or late: some updates fewer or more than planned.
"""

from __future__ import annotations

import math

from server.aggregation import Noise
from shared_model.errors import PrivacyError

__all__ = ["Closing", "looks_noise", "moments"]

#: Looks may take this share of a round's privacy (of 1 / z^2) where their noise is not given.
_SHARE = 0.04


def moments(deadline_s: float, looks: int) -> tuple[float, ...]:
    """Return the seconds into a round at which the server looks, all before the deadline."""
    return tuple(deadline_s * number / (looks + 1) for number in range(1, looks + 1))


def looks_noise(noise_multiplier: float, *, cohort: int, looks: int, given: float = 0.0) -> float:
    """Return the standard deviation of the noise on each count of a round.

    Parameters
    ----------
    noise_multiplier
        The announced z of a whole round.
    cohort
        Planned (nominal) devices.
    looks
        At most so many looks a round.
    given
        What the configuration says; 0: a twentieth of the cohort, or more where that is too little.

    Raises
    ------
    PrivacyError
        If the looks alone would cost more than the whole round may.
    """
    if noise_multiplier == 0.0:
        return 0.0
    if given and given <= noise_multiplier * math.sqrt(looks):
        raise PrivacyError(
            f"noise of {given:g} on {looks} counts of replies is too little for a noise multiplier of "
            f"{noise_multiplier:g}: it must be above {noise_multiplier * math.sqrt(looks):g}",
            hint="raise close_noise, or leave it at 0 to have it chosen",
        )
    return given or max(cohort / 20.0, noise_multiplier * math.sqrt(looks / _SHARE))


class Closing:
    """Whether one round has enough; ask it after each time that all that came was fetched.

    Parameters
    ----------
    planned
        Accepted updates that are enough.
    at
        Seconds at which to look; empty: at any time, and exactly.
    std
        Standard deviation of the noise on a count.
    noise
        Where it comes from.
    """

    def __init__(self, planned: int, *, at: tuple[float, ...] = (), std: float = 0.0, noise: Noise) -> None:
        self._planned = planned
        self._exact = not at
        self._left = list(at)
        self._std = std
        self._noise = noise
        self.closed = False

    def full(self, count: int) -> bool:
        """Say whether an exact count is enough; never where it must be noised."""
        self.closed = self.closed or (self._exact and count >= self._planned)
        return self.closed

    def look(self, count: int, elapsed_s: float) -> bool:
        """Look, if a moment has passed: everything that had come ``elapsed_s`` into the round is counted.

        Moments that passed together are one look, so there are never more looks than are paid for.
        """
        if self.full(count):
            return True
        due = [moment for moment in self._left if moment <= elapsed_s]
        self._left = self._left[len(due) :]
        if due:
            drawn = float(self._noise((1,), std=self._std)) if self._std else 0.0
            self.closed = count + drawn >= self._planned
        return self.closed
