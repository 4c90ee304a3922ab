"""Devices that come and go, are slow, or fall silent: a grid on a clock of its own.

Time is virtual: a night passes in a blink, and a round's seconds in its report are virtual too. What
happens to a device is decided by the seed, its number and the round, so all engines give the same
rounds. Nothing is known of a device before it answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from server.state import RoundState
from server.transport import Timing
from simulations.grid import InProcessGrid, name_message
from simulations.populations.config import ChurnConfig

__all__ = ["ChurnGrid", "Habits", "habits"]

_HOUR, _DAY = 3600.0, 86400.0
_FIRST_S, _LONGEST_S = 1.0, 60.0  # pauses of a server that lives on this clock


@dataclass(frozen=True)
class Habits:
    """How one device behaves.

    Parameters
    ----------
    from_h
        Hour of the day from which it can be reached.
    pace
        Its answers take this many times the usual time.
    failing
        It falls silent now and then.
    """

    from_h: float
    pace: float
    failing: bool


def habits(config: ChurnConfig, device: int) -> Habits:
    """Return the habits of a device; most can be reached around one o'clock at night."""
    dice = random.Random(f"{config.seed}/habits/{device}")
    middle = dice.gauss(1.0, 4.0)
    slow, failing = dice.random() < config.slow_share, dice.random() < config.failing_share
    return Habits((middle - config.online_h / 2) % 24.0, config.slow_factor if slow else 1.0, failing)


@dataclass
class _Clock:
    now: float

    def pause(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class ChurnGrid(Grid):
    """Passes requests on to another grid when a device has had time to answer them.

    Parameters
    ----------
    inner
        Runs the devices.
    config
        How they behave.

    Notes
    -----
    All devices are registered all the time. A request waits on the server until its device can be
    reached. A device that falls silent, or would answer after the deadline, is not run: its ledger
    does not know of the round.
    """

    inner: InProcessGrid
    config: ChurnConfig
    _clock: _Clock = field(init=False)
    _ready: dict[str, tuple[float, Message]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._clock = _Clock(self.config.start_h * _HOUR)
        self._index = {node: index for index, node in enumerate(self.inner.get_node_ids())}

    @property
    def timing(self) -> Timing:
        """The clock by which these devices live."""
        return Timing(lambda: self._clock.now, self._clock.pause, _FIRST_S, _LONGEST_S)

    def go_on(self, state: RoundState) -> None:
        """Let the time pass that the finished rounds of a run took."""
        self._clock.pause(sum(report.seconds for report in state.reports))

    @property
    def failures(self) -> list[str]:
        """What went wrong on devices that answered."""
        return self.inner.failures

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self.inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message."""
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all devices, in order."""
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep the messages, and decide when their devices will have answered."""
        names = []
        for message in messages:
            names.append(name_message(message))
            when = self._answers_at(self._index[message.metadata.dst_node_id], message.metadata.group_id)
            if when is not None:
                self._ready[names[-1]] = when, message
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Run the devices that have had the time to answer by now, and yield their replies in that order."""
        wanted = [name for name in message_ids if name in self._ready and self._ready[name][0] <= self._clock.now]
        there = sorted((self._ready.pop(name) for name in wanted), key=lambda item: item[0])
        return self.inner.pull_messages(self.inner.push_messages(message for _, message in there))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Push, let ``timeout`` seconds pass (by default a day), and pull."""
        names = list(self.push_messages(messages))
        self._clock.pause(_DAY if timeout is None else timeout)
        return self.pull_messages(names)

    def _answers_at(self, device: int, group: str) -> float | None:
        """Return when a device that is asked now will have answered; None if it falls silent."""
        own = habits(self.config, device)
        dice = random.Random(f"{self.config.seed}/{device}/{group}")
        if own.failing and dice.random() < self.config.failure_rate:
            return None
        seconds = self.config.device_s * own.pace * dice.uniform(0.8, 1.2)
        return self._reached_at(own) + seconds

    def _reached_at(self, own: Habits) -> float:
        now = self._clock.now
        if self.config.availability == "always":
            return now
        hour = (now % _DAY) / _HOUR
        since = (hour - own.from_h) % 24.0
        return now if since < self.config.online_h else now + (24.0 - since) * _HOUR
