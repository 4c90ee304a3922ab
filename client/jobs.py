"""Work that can be followed, cancelled and dropped. Threads only: nothing here reaches the network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from shared_model.errors import EaselError

__all__ = ["DroppedError", "Job", "News"]


class DroppedError(EaselError):
    """A job ended before it was done.

    Attributes
    ----------
    why
        ``cancelled``, ``late`` (its deadline passed) or ``stopping`` (so does the daemon).
    """

    MESSAGES: Mapping[str, str] = {
        "cancelled": "cancelled",
        "late": "the deadline has passed",
        "stopping": "the daemon is stopping",
    }

    def __init__(self, why: str) -> None:
        super().__init__(self.MESSAGES[why])
        self.why = why


@dataclass(frozen=True)
class News:
    """Where a job stands.

    Attributes
    ----------
    stage
        One lower-case word, such as ``queued`` or ``painting``.
    fraction
        Of the whole work, in [0, 1].
    ahead
        While queued: how many jobs come before it.
    loss
        While tuning.
    """

    stage: str
    fraction: float = 0.0
    ahead: int = 0
    loss: float = 0.0


@dataclass(eq=False)
class Job:
    """One piece of work.

    Attributes
    ----------
    client
        Whose.
    work
        Called with the job, in the worker's thread; its result or error becomes ``result``'s.
    tell
        Gets the news, in any thread.
    deadline
        On ``clock``, in seconds; ``None``: none.
    result
        What came of it.
    """

    client: str
    work: Callable[[Job], Any]
    tell: Callable[[News], None] = lambda news: None
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic
    result: Future[Any] = field(default_factory=Future)
    _why: str = ""

    def cancel(self, why: str = "cancelled") -> None:
        """Drop it, for one of the reasons of `DroppedError`: before it starts, or at its next check."""
        self._why = self._why or why

    @property
    def dropped(self) -> str:
        """Why nobody waits for it any more; empty: somebody does."""
        late = self.deadline is not None and self.clock() >= self.deadline
        return self._why or ("late" if late else "")

    def check(self) -> None:
        """Go on only if somebody still waits for the result.

        Raises
        ------
        DroppedError
            If nobody does.
        """
        if why := self.dropped:
            raise DroppedError(why)

    def report(self, stage: str, fraction: float, *, loss: float = 0.0) -> None:
        """Check, then tell the news."""
        self.check()
        self.tell(News(stage, fraction, loss=loss))

    def run(self) -> None:
        """Do the work and settle the result; an error of the work never leaves this method."""
        try:
            self.check()
            self.settle(self.work(self))
        except BaseException as error:
            self.settle(error)

    def settle(self, outcome: object) -> None:
        """Set the result, or the error, unless it is settled already; lets go of the work."""
        self.work = _nothing
        with contextlib.suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self.result.set_exception(outcome)
            else:
                self.result.set_result(outcome)


def _nothing(job: Job) -> None:
    """Hold no upload in memory."""
