"""A grid with slow and flaky links, on a clock of its own: a day of stragglers in a second.

Each request takes as long as a function says, and is lost where it says so. Nothing waits: the server's
pauses move the clock (:attr:`VirtualClock.timing`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flwr.app import Message
from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp

from server.transport import Timing
from simulations.grid import InProcessGrid

__all__ = ["Delay", "SlowGrid", "VirtualClock", "flaky"]

#: (device from 0, its how-manieth request from 0) -> seconds until the answer is there; None: it is lost.
Delay = Callable[[int, int], float | None]


class VirtualClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += max(seconds, 1e-3)

    @property
    def timing(self) -> Timing:
        """What :func:`server.rounds.run` needs to live by this clock."""
        return Timing(clock=lambda: self.now, sleep=self.sleep)


class SlowGrid(InProcessGrid):
    """An :class:`InProcessGrid` whose answers come when they are due, the earliest first.

    Parameters
    ----------
    client_app, node_configs, run_config
        As for the grid in one process.
    clock
        The time that it lives by.
    delay
        How long each answer takes.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Sequence[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue] | None = None,
        *,
        clock: VirtualClock,
        delay: Delay,
    ) -> None:
        super().__init__(client_app, node_configs, run_config)
        self._clock, self._delay = clock, delay
        self._order = {node: index for index, node in enumerate(self._contexts)}
        self._asked = dict.fromkeys(self._contexts, 0)
        self._due: dict[str, float] = {}
        self.away: set[int] = set()

    def get_node_ids(self) -> Iterable[int]:
        """Return the devices that are not :attr:`away`."""
        return [node for node in super().get_node_ids() if node not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send, and note when each answer will be there."""
        sent = list(messages)
        names = list(super().push_messages(sent))
        for name, message in zip(names, sent, strict=True):
            node = message.metadata.dst_node_id
            took = self._delay(self._order[node], self._asked[node])
            self._asked[node] += 1
            if took is None:
                del self._waiting[name]
            else:
                self._due[name] = self._clock.now + took
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield the answers that are there by now."""
        now = self._clock.now
        ready = [name for name in message_ids if name in self._waiting and self._due[name] <= now]
        return super().pull_messages(sorted(ready, key=lambda name: self._due[name]))


def flaky(*, typical_s: float, lost: float, seed: int, slow: float = 0.2) -> Delay:
    """Return links of which a share ``lost`` of requests never comes back and some are very slow.

    Times are exponential with mean ``typical_s``; a share ``slow`` of the devices takes ten times as long.
    """

    def delay(device: int, number: int) -> float | None:
        draw = random.Random(f"{seed}/{device}/{number}")
        lags = 10.0 if random.Random(f"{seed}/{device}").random() < slow else 1.0
        return None if draw.random() < lost else draw.expovariate(1.0 / (typical_s * lags))

    return delay
