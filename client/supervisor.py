"""Keeps a device's SuperNode running while its owner's conditions hold, and only then.

After a crash Flower's SuperLink holds a node for connected until its heartbeat has lapsed, about 60 s,
and turns a second one with the same key away; a SuperNode that is turned away ends and does not try
again. So the supervisor waits for the lapse after every end that it did not ask for, and longer each
time it happens again: a revoked device knocks once an hour in the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from shared_model.errors import FederationError, StorageError
from shared_model.lone import alone, holder

__all__ = ["LAPSE_S", "Node", "Supervisor", "only_one", "supervising"]

LAPSE_S = 65.0
_LONGEST_S = 3600.0
_STEADY_S = 600.0
_LOCK = ".easel-join.lock"


class Node(Protocol):
    """A running SuperNode, :class:`client.supernode.SuperNode` outside tests."""

    def running(self) -> bool:
        """Say whether it still runs."""

    def refused(self) -> bool:
        """Say whether the server turned it away."""

    def stop(self) -> None:
        """End it and wait."""


class Supervisor:
    """Decides, look by look, whether the SuperNode runs.

    Guarantees
    ----------
    It is stopped at the first look at which a condition fails, and never started while one does.
    At most one runs. After an end of its own accord the next start is at least :data:`LAPSE_S` later,
    doubled each time, up to an hour; ten minutes without an end start the count anew.

    Edge cases
    ----------
    Stopping in the middle of a round loses that participation; what it cost stays in the ledger.

    Parameters
    ----------
    start
        Starts a SuperNode.
    objections
        Says why the device does not take part now, empty if it does; is told whether it runs.
    clock
        Monotonic seconds.
    say
        Tells the owner about changes.
    """

    def __init__(
        self,
        start: Callable[[], Node],
        *,
        objections: Callable[[bool], Sequence[str]],
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._start = start
        self._objections = objections
        self._clock = clock
        self._say = say
        self._node: Node | None = None
        self._started = 0.0
        self._not_before = -_LONGEST_S
        self._ends = 0
        self._said = ""

    @property
    def taking_part(self) -> bool:
        """Whether the SuperNode runs."""
        return self._node is not None and self._node.running()

    def step(self) -> None:
        """Look once: stop, start, or leave as it is."""
        now = self._clock()
        if self._node is not None and not self._node.running():
            self._ended(now)
        reasons = list(self._objections(self.taking_part))
        if reasons:
            if self._node is not None:
                self._stop()
            self._tell(f"waiting: {', '.join(reasons)}")
        elif self._node is None and now >= self._not_before:
            self._node = self._start()
            self._started = now
            self._tell("taking part")

    def close(self) -> None:
        """Stop the SuperNode if it runs."""
        if self._node is not None:
            self._stop()

    def _stop(self) -> None:
        assert self._node is not None
        self._node.stop()  # it signs off, so the next start need not wait
        self._node = None

    def _ended(self, now: float) -> None:
        assert self._node is not None
        refused = self._node.refused()
        self._node.stop()  # whatever is left of its session
        self._node = None
        self._ends = 1 if now - self._started >= _STEADY_S else self._ends + 1
        wait = min(_LONGEST_S, LAPSE_S * 2 ** (self._ends - 1))
        self._not_before = now + wait
        why = (
            "the server turned it away: it still counts an earlier connection, or this device was revoked"
            if refused
            else "it ended unexpectedly"
        )
        self._tell(f"not connected: {why}; next try in {wait:.0f} s")

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a device folder's lock, with this process's number in its file.

    Raises
    ------
    FederationError
        If another process takes part for this device.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(alone(folder / _LOCK))
        except BlockingIOError as error:
            raise FederationError(
                f"this device takes part already (process {supervising(folder)})", hint="easel leave ends it"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot use {folder}: {error.strerror}", hint="choose another --folder") from error
        yield


def supervising(folder: Path) -> int | None:
    """Return the process that takes part for a device, or None."""
    try:
        return holder(folder / _LOCK)
    except OSError:
        return None
