"""A Flower grid whose devices run in a pool of workers: processes of this computer, or Ray's actors.

Guarantees
    Replies come in the order in which they are pulled, as from the grid in one process, whichever
    worker is done first. So a sum of floating-point numbers has the same bits with any number of
    workers. A device never runs twice at once, and sees the state that its last call left.
Assumes
    Devices do not depend on each other within a round.
Edge cases
    Requests are carried out ahead of being pulled, a few for each worker, of the round that is being
    pulled: a round that ends early may have run devices whose replies nobody reads. Memory is that of
    these few, not of the fleet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from flwr.app import Context, Message
from flwr.app.user_config import UserConfigValue

from simulations.grid import InProcessGrid

__all__ = ["Answer", "PooledGrid", "Workers"]

#: Reply, first cause of an error, and the device's context after the call.
Answer = tuple[Message, str, Context]

_AHEAD = 2  # requests in the pool for each worker


class Workers(Protocol):
    """Somewhere to run devices."""

    @property
    def count(self) -> int:
        """How many devices run at once."""

    def submit(self, message: Message, context: Context) -> Future[Answer]:
        """Begin one call of the app."""


class PooledGrid(InProcessGrid):
    """Runs a ClientApp for many simulated devices in a pool.

    Parameters
    ----------
    workers
        Where they run.
    node_configs, run_config
        See :class:`simulations.grid.InProcessGrid`.
    """

    def __init__(
        self,
        workers: Workers,
        node_configs: Sequence[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue] | None = None,
    ) -> None:
        super().__init__(_never, node_configs, run_config)
        self._workers = workers
        self._order: deque[str] = deque()
        self._running: dict[str, tuple[Message, Future[Answer]]] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep the messages until a worker is free or their replies are pulled, and return their ids."""
        names = list(super().push_messages(messages))
        self._order.extend(names)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield the replies in the order of ``message_ids``, each as soon as all before it are there."""
        for name in list(message_ids):
            if name in self._waiting:
                self._begin(name)
            if name not in self._running:
                continue
            message, future = self._running[name]
            self._fill(message.metadata.group_id)
            reply, cause, context = future.result()
            del self._running[name]
            self._contexts[message.metadata.dst_node_id].state = context.state
            yield self._noted(message, reply, cause)

    def _fill(self, group: str) -> None:
        """Keep the workers busy with requests of the round that is being pulled."""
        busy = {message.metadata.dst_node_id for message, _ in self._running.values()}
        while self._order and len(self._running) < _AHEAD * self._workers.count:
            waiting = self._waiting.get(self._order[0])
            if waiting is not None and waiting.metadata.dst_node_id in busy:
                return
            name = self._order.popleft()
            if waiting is not None and waiting.metadata.group_id == group:
                busy.add(waiting.metadata.dst_node_id)
                self._begin(name)

    def _begin(self, name: str) -> None:
        message = self._waiting.pop(name)
        context = self._contexts[message.metadata.dst_node_id]
        self._running[name] = message, self._workers.submit(message, context)


def _never(message: Message, context: Context) -> Message:
    raise AssertionError("devices run in the pool")
