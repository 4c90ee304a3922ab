"""A Flower grid in one process: it calls the ClientApp in the caller's thread.

No Ray, no server, no ports; the same ServerApp and ClientApp as everywhere else. A device runs when
its reply is pulled, and replies come one by one, so memory does not grow with the fleet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig, UserConfigValue
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from simulations.device_call import App, become_task, call_device

__all__ = ["InProcessGrid", "name_message"]

_FIRST_NODE = 1001


class InProcessGrid(Grid):
    """Runs a ClientApp for many simulated devices.

    Parameters
    ----------
    client_app
        The app, unchanged.
    node_configs
        One mapping per device; ``partition-id`` and ``num-partitions`` are filled in when missing,
        as Flower's simulation engine does.
    run_config
        What every device sees as the run's configuration.

    Notes
    -----
    Device i has node id 1001 + i, in every process and every run. Flower creates messages on behalf
    of a task that its runtimes announce in ``TaskIdentity``; so does this grid, and it gives messages
    their ids as Flower's own grids do. These are the only two private touches.
    """

    def __init__(
        self,
        client_app: App,
        node_configs: Sequence[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue] | None = None,
    ) -> None:
        self._app = client_app
        self._run = Run.create_empty(run_id=1)
        self._waiting: dict[str, Message] = {}
        self.failures: list[str] = []
        self._contexts = {
            _FIRST_NODE + index: Context(
                run_id=1,
                node_id=_FIRST_NODE + index,
                node_config=self._node_config(values, index, len(node_configs)),
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for index, values in enumerate(node_configs)
        }
        become_task()

    @staticmethod
    def _node_config(values: Mapping[str, UserConfigValue], index: int, count: int) -> UserConfig:
        return {"partition-id": index, "num-partitions": count, **values}

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message; ``Message(...)`` does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all devices, in order."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep the messages until their replies are pulled, and return their ids."""
        names = []
        for message in messages:
            names.append(name_message(message))
            self._waiting[names[-1]] = message
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Run the devices one after the other, yielding each reply before the next one starts."""
        for name in list(message_ids):
            if name in self._waiting:
                yield self._answer(self._waiting.pop(name))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Push and pull; ``timeout`` is not needed, since a device runs in this thread."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        """Run one device; an exception becomes an error reply that names its first cause."""
        reply, cause = call_device(self._app, message, self._contexts[message.metadata.dst_node_id])
        return self._noted(message, reply, cause)

    def _noted(self, message: Message, reply: Message, cause: str) -> Message:
        """Give a reply its id, and keep an error's first cause in :attr:`failures`."""
        if cause:
            self.failures.append(f"node {message.metadata.dst_node_id}: {cause}")
        name_message(reply)
        return reply


def name_message(message: Message) -> str:
    """Give a message an id, unless it has one, and return it."""
    name = str(message.metadata.message_id or uuid4())
    message.metadata.__dict__["_message_id"] = name
    return name
