"""One request to many devices over a Flower ``Grid``, and their replies one by one as they come.

Flower's own ``send_and_receive`` returns all replies at once: memory of clients times model. Here
they are pulled in small groups and handed on one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from shared_model.errors import FederationError
from shared_model.messages import ARRAY, NOTICE, SETTINGS, RoundRequest

__all__ = ["GROUP", "Timing", "receive", "request_content", "send", "send_each", "wait_for_nodes"]

#: Messages pushed or pulled at once.
GROUP = 32


@dataclass(frozen=True)
class Timing:
    """Clock and patience, passed in so that tests need not wait.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    sleep
        Waits that many seconds.
    first_s, longest_s
        Pause between two empty polls: it starts at the first and doubles up to the longest.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    first_s: float = 0.1
    longest_s: float = 2.0


def request_content(request: RoundRequest, backbone: Tensor) -> RecordDict:
    """Return what every device receives: the backbone as ONE float32 array, and public settings."""
    array = Array(backbone.to(torch.float32).contiguous().numpy())
    return RecordDict({ARRAY: ArrayRecord({ARRAY: array}), SETTINGS: ConfigRecord(dict(request.to_values()))})


def wait_for_nodes(grid: Grid, count: int, *, limit_s: float, timing: Timing) -> tuple[int, ...]:
    """Wait until ``count`` devices are connected and return all that are, sorted.

    A ServerApp starts while devices are still registering; without this the first round would see
    few or none of them.

    Raises
    ------
    FederationError
        If there are fewer after ``limit_s`` seconds.
    """
    end = timing.clock() + limit_s
    pause = timing.first_s
    while True:
        nodes = tuple(sorted(set(grid.get_node_ids())))
        if len(nodes) >= count:
            return nodes
        if timing.clock() >= end:
            raise FederationError(
                f"only {len(nodes)} of {count} devices connected within {limit_s:g} s",
                hint="start more devices or lower min_nodes; finished rounds are saved, run again to go on",
            )
        timing.sleep(pause)
        pause = min(2 * pause, timing.longest_s)


def send(
    grid: Grid,
    content: RecordDict,
    nodes: Sequence[int],
    *,
    group: str,
    ttl_s: float,
    seen: Mapping[int, int] | None = None,
) -> dict[str, int]:
    """Send one content to many devices; return the device by message id, of those that were reached.

    A device in ``seen`` is told, alone, how many of its participations the server has seen.
    """
    known = seen or {}
    return send_each(grid, ((node, _noticed(content, known.get(node, 0))) for node in nodes), group=group, ttl_s=ttl_s)


def send_each(grid: Grid, contents: Iterable[tuple[int, RecordDict]], *, group: str, ttl_s: float) -> dict[str, int]:
    """Send each device its own content; return the device by message id, of those that were reached."""
    asked: dict[str, int] = {}
    remaining = iter(contents)
    while some := tuple(islice(remaining, GROUP)):
        messages = [Message(content, node, MessageType.TRAIN, ttl=ttl_s, group_id=group) for node, content in some]
        pushed = {name for name in grid.push_messages(messages) if name}
        for message, (node, _) in zip(messages, some, strict=True):
            if message.metadata.message_id in pushed:
                asked[message.metadata.message_id] = node
    return asked


def _noticed(content: RecordDict, seen: int) -> RecordDict:
    return RecordDict({**content, NOTICE: ConfigRecord({"seen": seen})}) if seen else content


def receive(
    grid: Grid,
    asked: Mapping[str, int],
    *,
    limit_s: float,
    timing: Timing,
    enough: Callable[[float], bool] = lambda elapsed_s: False,
) -> Iterator[Message]:
    """Yield replies as they come, until all have answered, enough have, or ``limit_s`` seconds have passed.

    Parameters
    ----------
    grid, asked, limit_s, timing
        Whom was asked over what, and for how long to wait.
    enough
        Called each time that everything was yielded which had come up to so many seconds into the wait.
    """
    begin = timing.clock()
    end = begin + limit_s
    pending = list(asked)
    pause = timing.first_s
    while pending:
        answered: set[str] = set()
        now = timing.clock()
        for start in range(0, len(pending), GROUP):
            for message in grid.pull_messages(pending[start : start + GROUP]):
                answered.add(message.metadata.reply_to_message_id)
                yield message
                if timing.clock() >= end:
                    return
        pending = [name for name in pending if name not in answered]
        if timing.clock() >= end or enough(now - begin):
            return
        pause = timing.first_s if answered else min(2 * pause, timing.longest_s)
        if pending and not answered:
            timing.sleep(min(pause, max(0.0, end - timing.clock())))
