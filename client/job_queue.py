"""A bounded queue of work that is fair between clients. Threads only: nothing here reaches the network.

A client first gets a :class:`Ticket` (:meth:`JobQueue.admit`), the right to hold memory and a place here; whoever
comes when all are given out, or asks for more than a client's share, is told when to come back. With a ticket it
submits jobs. They are dealt out in turn among clients, and in order within each, so that a client with a hundred jobs
delays another's one by no more than the job that is running and one more. A job that was cancelled, or whose deadline
has passed, is dropped before it starts; one that is running finds out at its next :meth:`client.jobs.Job.check`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from client.jobs import DroppedError, Job, News
from shared_model.errors import EaselError

__all__ = ["BusyError", "JobQueue", "Limits", "Ticket"]

_MEMORY = 0.7  # of the average length of a job
_FIRST_GUESS_S = 2.0


class BusyError(EaselError):
    """All places are taken.

    Attributes
    ----------
    retry_after_s
        When a place is likely to be free.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, hint=f"try again in {retry_after_s:.1f} seconds")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Limits:
    """How much may be here at once.

    Attributes
    ----------
    calls, calls_per_client
        Tickets in all, and of one client. The second is smaller, so that nobody can take all places.
    held_bytes
        Bytes of uploads in all.
    """

    calls: int = 64
    calls_per_client: int = 16
    held_bytes: int = 1 << 30


class Ticket:
    """The right of one call to hold memory and a place; given back by :meth:`close`, or at the end of a ``with``."""

    def __init__(self, queue: JobQueue, client: str) -> None:
        self.client = client
        self._queue = queue
        self._bytes = 0
        self._jobs: list[Job] = []
        self._open = True

    def hold(self, count: int) -> None:
        """Take ``count`` more bytes into account.

        Raises
        ------
        BusyError
            If all uploads together are too large.
        """
        self._queue._hold(count)
        self._bytes += count

    def submit(self, job: Job) -> None:
        """Queue a job of this ticket's client.

        Raises
        ------
        DroppedError
            If the queue was closed.
        """
        self._queue._submit(job)
        self._jobs.append(job)

    def close(self) -> None:
        """Give it back and cancel its jobs; a second time changes nothing."""
        if self._open:
            self._open = False
            for job in self._jobs:
                self._queue._drop(job)
            self._jobs.clear()
            self._queue._release(self.client, self._bytes)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class JobQueue:
    """The tickets, and one line of jobs for each client.

    Parameters
    ----------
    limits
        How much may be here at once.
    clock
        Seconds; for deadlines and for guessing how long a job takes.
    """

    def __init__(self, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self._changed = threading.Condition()
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()  # in the order in which they are served
        self._tickets: dict[str, int] = {}
        self._held = 0
        self._running: Job | None = None
        self._usual_s = _FIRST_GUESS_S
        self._closed = False

    @property
    def calls(self) -> int:
        """How many tickets are given out."""
        with self._changed:
            return sum(self._tickets.values())

    @property
    def waiting(self) -> int:
        """How many jobs wait for their turn."""
        with self._changed:
            return sum(map(len, self._lines.values()))

    @property
    def closed(self) -> bool:
        """Whether nothing new is taken."""
        return self._closed

    def admit(self, client: str) -> Ticket:
        """Give a ticket to ``client``.

        Raises
        ------
        BusyError
            If there is none left, or this client has its share.
        DroppedError
            If the queue was closed.
        """
        with self._changed:
            self._check_open()
            mine, all_of_them = self._tickets.get(client, 0), sum(self._tickets.values())
            if mine >= self.limits.calls_per_client:
                raise BusyError(f"{mine} calls of this client are under way", retry_after_s=self._next_free_s())
            if all_of_them >= self.limits.calls:
                raise BusyError(f"{all_of_them} calls are under way", retry_after_s=self._next_free_s())
            self._tickets[client] = mine + 1
        return Ticket(self, client)

    def next(self, timeout_s: float | None = None) -> Job | None:
        """Take the job whose turn it is; waits for one. ``None``: none came in time, or the queue was closed."""
        with self._changed:
            self._running = None
            while not self._closed:
                if (job := self._take()) is not None:
                    self._running = job
                    self._tell_places()
                    return job
                if not self._changed.wait(timeout_s):
                    return None
        return None

    def work(self) -> None:
        """Run jobs until the queue is closed: what a worker's thread does."""
        while (job := self.next()) is not None or not self._closed:
            if job is not None:
                begin = self.clock()
                job.run()
                with self._changed:
                    self._usual_s += (1 - _MEMORY) * (self.clock() - begin - self._usual_s)

    def close(self, *, running: bool = False) -> None:
        """Take nothing new and drop what waits; with ``running`` also what runs, at its next check."""
        with self._changed:
            self._closed = True
            waiting = [job for line in self._lines.values() for job in line]
            self._lines.clear()
            if running and self._running is not None:
                self._running.cancel("stopping")
            self._changed.notify_all()
        for job in waiting:
            job.settle(DroppedError("stopping"))

    def _submit(self, job: Job) -> None:
        with self._changed:
            self._check_open()
            self._lines.setdefault(job.client, deque()).append(job)
            self._tell_places()
            self._changed.notify()

    def _drop(self, job: Job) -> None:
        """Cancel a job; one that waits leaves its line, and lets go of what it holds, at once."""
        job.cancel()
        with self._changed:
            line = self._lines.get(job.client, deque())
            if job not in line:
                return
            line.remove(job)
            if not line:
                del self._lines[job.client]
            self._tell_places()
        job.run()  # settles it as dropped

    def _hold(self, count: int) -> None:
        with self._changed:
            if self._held + count > self.limits.held_bytes:
                raise BusyError("the uploads of all clients fill the memory", retry_after_s=self._next_free_s())
            self._held += count

    def _release(self, client: str, held: int) -> None:
        with self._changed:
            self._held -= held
            self._tickets[client] -= 1
            if not self._tickets[client]:
                del self._tickets[client]

    def _check_open(self) -> None:
        if self._closed:
            raise DroppedError("stopping")

    def _take(self) -> Job | None:
        """Take the first living job of the client whose turn it is; that client then goes to the end."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            job = line.popleft()
            if line:
                self._lines.move_to_end(client)
            else:
                del self._lines[client]
            if not job.dropped:
                return job
            job.run()  # settles it as dropped
        return None

    def _next_free_s(self) -> float:
        """Guess when the next place is free: each client gets one after about one round of all clients."""
        return max(0.2, self._usual_s * max(1, len(self._lines)))

    def _tell_places(self) -> None:
        for place, job in enumerate(self._in_turn(), start=self._running is not None):
            job.tell(News("queued", ahead=place))

    def _in_turn(self) -> Iterator[Job]:
        """Yield the waiting jobs in the order in which they will run."""
        for row in range(max(map(len, self._lines.values()), default=0)):
            yield from (line[row] for line in self._lines.values() if row < len(line))
