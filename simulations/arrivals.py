"""A day (or a week) of a large fleet's arrivals: who is there when a round wants a cohort, and who is asked.

Devices come when their owners' policies allow (``policy.toml``: mains power, unmetered network, idle), which
mostly is at night, and go again in the middle of a round. The rounds' own selection
(:func:`server.cohort.choose`) asks them; nothing is trained and nothing is sent. A device is a few bytes in
some arrays, so a million of them fit.

The habits are assumptions, stated in :class:`Habits`; they are not measured on anybody.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.cohort import choose, remember
from server.config import FederationConfig
from shared_model.errors import ConfigError

__all__ = ["Arrivals", "Habits", "Outcome", "RoundOutcome", "simulate"]

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

HOUR_S = 3600.0
_RUN_ON = 0.02  # a share of devices that is always there: desktops


@dataclass(frozen=True)
class Habits:
    """How owners treat their devices; all of it assumed.

    Parameters
    ----------
    bedtime, bedtime_spread
        Local hour at which a device is put on its charger, mean and standard deviation over people.
    night_h, night_spread
        How long it stays there.
    charging_by_day
        Share of a day's other hours on mains power.
    unmetered
        Share of the nights on an unmetered network; by day half of it.
    idle_by_day
        Share of the day in which nobody touches the device.
    zones
        Time zones that the people live in, hours from UTC, with their weights.
    absent
        Share of the devices that are off for a whole day.
    leaves_per_hour
        Of those that take part, so many go away per hour, whenever it is.
    """

    bedtime: float = 23.0
    bedtime_spread: float = 1.5
    night_h: float = 7.0
    night_spread: float = 1.0
    charging_by_day: float = 0.15
    unmetered: float = 0.85
    idle_by_day: float = 0.4
    zones: Mapping[int, float] = field(default_factory=lambda: {-8: 0.1, -5: 0.2, 0: 0.2, 1: 0.3, 8: 0.1, 9: 0.1})
    absent: float = 0.1
    leaves_per_hour: float = 0.15

    def __post_init__(self) -> None:
        for name in ("charging_by_day", "unmetered", "idle_by_day", "absent"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not self.zones or min(self.zones.values()) < 0.0:
            raise ConfigError("zones need weights of 0 or more")


class Arrivals:
    """Which devices are there at a time; everything is drawn from the seed.

    Parameters
    ----------
    count
        Devices of the fleet.
    habits
        How they behave.
    seed
        Of all draws.
    """

    def __init__(self, count: int, *, habits: Habits, seed: int) -> None:
        self.count = count
        self._habits = habits
        self._seed = seed
        draw = np.random.default_rng((seed, 0))
        hours = np.array(sorted(habits.zones), dtype=np.float32)
        weights = np.array([habits.zones[int(hour)] for hour in hours], dtype=float)
        zone = draw.choice(hours, size=count, p=weights / weights.sum())
        bed = draw.normal(habits.bedtime, habits.bedtime_spread, count).astype(np.float32)
        self._start = ((bed - zone) % 24.0).astype(np.float32)  # UTC hour at which the night begins
        self._night = np.clip(draw.normal(habits.night_h, habits.night_spread, count), 1.0, 14.0).astype(np.float32)
        self._always = draw.random(count) < _RUN_ON

    def there(self, at_s: float) -> Flags:
        """Return (count,) whether each device's policy lets it take part at this time, UTC seconds from midnight."""
        habits, day = self._habits, int(at_s // (24 * HOUR_S))
        hour = np.float32((at_s / HOUR_S) % 24.0)
        since = (hour - self._start) % np.float32(24.0)
        night = since < self._night
        # One draw a day for what a whole night shares, one an hour for what changes by the hour.
        nightly = np.random.default_rng((self._seed, 1, day)).random(self.count, dtype=np.float32)
        absent = np.random.default_rng((self._seed, 2, day)).random(self.count, dtype=np.float32) < habits.absent
        hourly = np.random.default_rng((self._seed, 3, int(at_s // HOUR_S))).random(self.count, dtype=np.float32)
        by_day = habits.charging_by_day * habits.idle_by_day * habits.unmetered / 2.0
        eligible = np.where(night, nightly < habits.unmetered, hourly < by_day)
        return (eligible | self._always) & ~absent


@dataclass(frozen=True)
class RoundOutcome:
    """One round.

    Parameters
    ----------
    started_s
        When it asked, seconds from the first midnight (UTC).
    waited_s
        How long it had waited for ``min_nodes`` devices.
    present, asked, answered
        Devices that were there, that were asked, and that stayed until they were done.
    filled_s
        From asking to the reply that made the planned cohort full; ``None``: it never was.
    released
        Whether the quorum was reached.
    selection_s
        Processor seconds of the selection.
    """

    started_s: float
    waited_s: float
    present: int
    asked: int
    answered: int
    filled_s: float | None
    released: bool
    selection_s: float


@dataclass(frozen=True)
class Outcome:
    """All rounds, and what they add up to.

    Parameters
    ----------
    rounds
        One by one.
    times_asked
        (count,) how often each device was asked.
    hours
        (24,) mean share of the fleet that was there, by UTC hour.
    seconds, memory_mb
        Wall time of the simulation, and the largest memory of the process.
    """

    rounds: tuple[RoundOutcome, ...]
    times_asked: Numbers
    hours: npt.NDArray[np.float64]
    seconds: float
    memory_mb: float

    def facts(self) -> dict[str, float | int | None]:
        """Return the figures, JSON-ready."""
        filled = sorted(item.filled_s for item in self.rounds if item.filled_s is not None)
        never = int((self.times_asked == 0).sum())
        return {
            "devices": len(self.times_asked),
            "rounds": len(self.rounds),
            "released": sum(item.released for item in self.rounds),
            "present_least": min(item.present for item in self.rounds),
            "present_most": max(item.present for item in self.rounds),
            "asked_mean": float(np.mean([item.asked for item in self.rounds])),
            "answered_mean": float(np.mean([item.answered for item in self.rounds])),
            "full_cohorts": len(filled),
            "fill_s_median": filled[len(filled) // 2] if filled else None,
            "fill_s_worst": filled[-1] if filled else None,
            "wait_s_worst": max(item.waited_s for item in self.rounds),
            "selection_s_mean": float(np.mean([item.selection_s for item in self.rounds])),
            "never_asked": never / len(self.times_asked),
            "asked_most": int(self.times_asked.max()),
            "gini": gini(self.times_asked),
            "peak_over_trough": float(self.hours.max() / max(self.hours.min(), 1e-9)),
            "seconds": self.seconds,
            "memory_mb": self.memory_mb,
        }


def simulate(
    config: FederationConfig,
    *,
    devices: int,
    days: float,
    pause_s: float = 600.0,
    train_s: float = 120.0,
    train_spread: float = 0.6,
    habits: Habits | None = None,
    seed: int = 0,
) -> Outcome:
    """Run the selection of as many rounds as fit into the time (or as the configuration has).

    Parameters
    ----------
    config
        Cohort, deadline, quorum, ``min_nodes``, mechanism: what a real fleet's federation.toml says.
    devices
        How many there are; ``config.population`` is what the operator has stated.
    days
        How long.
    pause_s
        From the end of a round to the next.
    train_s, train_spread
        A device's time from being asked to its reply: median, and standard deviation of its logarithm.
    habits
        See :class:`Habits`.
    seed
        Of everything but the secret coins of ``"sampled"`` cohorts.
    """
    begun, habits = time.perf_counter(), habits or Habits()
    fleet = Arrivals(devices, habits=habits, seed=seed)
    draw = np.random.default_rng((seed, 9))
    times = np.zeros(devices, dtype=np.int64)
    asked_when: Mapping[int, int] = {}
    rounds: list[RoundOutcome] = []
    now = 0.0
    while now < days * 24 * HOUR_S and len(rounds) < config.rounds:
        ready = now
        present = np.flatnonzero(fleet.there(now))
        while len(present) < config.min_nodes and now - ready < config.wait_s and now < days * 24 * HOUR_S:
            now += 60.0
            present = np.flatnonzero(fleet.there(now))
        if len(present) < config.min_nodes:
            break
        number, start = len(rounds) + 1, time.process_time()
        chosen = np.array(choose(present.tolist(), round=number, asked=asked_when, config=config), dtype=np.int64)
        asked_when = remember(asked_when, chosen.tolist(), round=number, config=config)
        spent = time.process_time() - start
        times[chosen] += 1
        replies = np.sort(_replies(chosen, fleet, now, draw, habits, train_s=train_s, spread=train_spread))
        answered = replies[replies <= config.deadline_s]
        full = len(answered) >= config.planned
        filled = float(answered[config.planned - 1]) if full else None
        released = len(answered) >= config.needed
        counts = (len(present), len(chosen), len(answered))
        rounds.append(RoundOutcome(now, now - ready, *counts, filled, released, spent))
        everybody_s = float(replies[-1]) if len(answered) == len(chosen) and len(replies) else config.deadline_s
        now += everybody_s + pause_s
    if not rounds:
        raise ConfigError("no round ever had enough devices", hint="lower min_nodes, or simulate more devices")
    hours = np.array([fleet.there(hour * HOUR_S).mean() for hour in range(24)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024.0 if sys.platform != "darwin" else 1 << 20)
    return Outcome(tuple(rounds), times, hours, time.perf_counter() - begun, memory)


def _replies(
    chosen: Numbers,
    fleet: Arrivals,
    now: float,
    draw: np.random.Generator,
    habits: Habits,
    *,
    train_s: float,
    spread: float,
) -> npt.NDArray[np.float64]:
    """Return when those that are asked answer; those that go away before never do."""
    took = train_s * np.exp(spread * draw.standard_normal(len(chosen)))
    stays = draw.exponential(HOUR_S / max(habits.leaves_per_hour, 1e-9), len(chosen))
    later = fleet.there(now + train_s)[chosen]
    return took[(took < stays) & later]


def gini(counts: Numbers) -> float:
    """Return how unevenly a count is spread: 0 for all the same, near 1 for all with one."""
    ordered = np.sort(counts.astype(float))
    total = ordered.sum()
    if total == 0.0:
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float(max(0.0, 2.0 * (ranks * ordered).sum() / (len(ordered) * total) - (len(ordered) + 1) / len(ordered)))


def even_gini(mean: float) -> float:
    """Return the Gini index of pure chance (Poisson counts with this mean): what no selection can be below."""
    counts = np.random.default_rng(0).poisson(mean, 200_000)
    return gini(counts) if math.isfinite(mean) else 0.0
