"""Differences between methods on the same devices, and the answers that they carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from simulations.experiment.summary import Entry, Group
from simulations.studies.intervals import Estimate, estimate

__all__ = ["FEWEST", "Contrast", "contrast", "contrasts"]

#: Devices below which a bootstrap interval says nothing.
FEWEST = 5


@dataclass(frozen=True)
class Contrast:
    """How much lower the loss of ``better`` is than that of ``than``, on the same devices.

    Parameters
    ----------
    better, than
        Labels.
    gain
        ``than`` minus ``better``: positive where ``better`` is.
    relative
        The mean gain as a share of the mean loss of ``than``.
    """

    better: str
    than: str
    gain: Estimate
    relative: float

    @property
    def answer(self) -> str:
        """``"yes"``, ``"no"`` (it is worse), or ``"not measurable"``; an interval of a few devices is none."""
        if self.gain.count < FEWEST:
            return "too few devices"
        if self.gain.low > 0.0:
            return "yes"
        return "no" if self.gain.high < 0.0 else "not measurable"


def contrast(better: Entry, than: Entry) -> Contrast | None:
    """Compare two methods on the devices that both have measured; ``None`` if there are none."""
    mine, theirs = better.losses(), than.losses()
    both = sorted(mine.keys() & theirs.keys())
    if not both:
        return None
    base = sum(theirs[key] for key in both) / len(both)
    gain = estimate([theirs[key] - mine[key] for key in both], [str(seed) for seed, _ in both])
    return Contrast(better.label, than.label, gain, gain.mean / base if base else math.nan)


def contrasts(group: Group) -> dict[str, list[Contrast]]:
    """Return the two questions of an experiment, and every method's answer.

    ``"local"``: does it beat local training alone; ``"global"``: do networks of one's own beat FedAvg's
    shared one. Where there are several to compare with, the one with the lowest loss is taken, which is the
    hardest to beat. Empty where there is none.
    """
    local, shared = _best(group, "local"), _best(group, "fedavg")

    def all_of(than: Entry | None, wanted: Callable[[Entry], bool]) -> list[Contrast]:
        if than is None:
            return []
        made = [contrast(entry, than) for entry in group.entries if entry is not than and wanted(entry)]
        return [item for item in made if item is not None]

    return {
        "local": all_of(local, lambda entry: entry.federated),
        "global": all_of(shared, lambda entry: entry.own_networks and entry.federated),
    }


def _best(group: Group, name: str) -> Entry | None:
    """Return the entry of a method with the lowest personal loss."""
    found = [(entry.personal.mean, entry) for entry in group.entries if entry.name == name and entry.personal]
    return min(found, key=lambda pair: pair[0])[1] if found else None
