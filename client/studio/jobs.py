"""Work that takes a while, one piece at a time on each lane, with progress, a bounded queue and a way to stop.

A lane is one thread: small previews, full paintings, learning and the fleet do not wait for each other. Of several
waiting pieces with the same key (the slider of one tab that is still moving) only the newest is done.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared_model.errors import EaselError

__all__ = ["LANES", "BusyError", "Job", "Jobs", "StoppedError"]

LANES = ("preview", "paint", "learn", "fleet")
_REMEMBERED = 48  # finished jobs whose results can still be fetched


class BusyError(EaselError):
    """Too much is waiting already."""


class StoppedError(EaselError):
    """The owner does not want this any more."""


@dataclass
class Job:
    """One piece of work and what became of it.

    Attributes
    ----------
    id
        Cannot be guessed.
    lane, key
        Where it runs; which newer job makes it needless (empty: none).
    state
        ``waiting``, ``running``, ``done``, ``failed`` or ``stopped``.
    progress, note
        Share done in [0, 1], and a few words.
    result, pictures
        Plain values for JSON, and the bytes of pictures, as far as they are there.
    error
        Why it failed.
    version
        Grows with every change.
    stop_asked
        The owner wants it to end soon, with the best so far.
    """

    lane: str
    key: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "waiting"
    progress: float = 0.0
    note: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)
    error: EaselError | None = None
    version: int = 0
    stop_asked: bool = False
    _on_stop: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in ("done", "failed", "stopped")

    def advance(self, progress: float, note: str = "") -> None:
        """Say how far it is."""
        self.progress, self.note = min(1.0, max(0.0, progress)), note or self.note
        self.version += 1

    def watch(self, progress: float) -> None:
        """Say how far it is.

        Raises
        ------
        StoppedError
            If it was asked to end.
        """
        if self.stop_asked:
            raise StoppedError("stopped")
        self.advance(progress)

    def on_stop(self, call: Callable[[], None]) -> None:
        """Say what ends it early; called at once if that was asked for already."""
        self._on_stop = call
        if self.stop_asked:
            call()

    def stop(self) -> None:
        """Ask it to end; one that is waiting never starts."""
        self.stop_asked = True
        if self._on_stop is not None:
            self._on_stop()

    def finish(self, state: str, error: EaselError | None = None) -> None:
        """Note its end."""
        self.error, self.progress = error, 1.0 if state == "done" else self.progress
        self.state = state
        self.version += 1


Work = Callable[[Job], None]


class Jobs:
    """The queue.

    Parameters
    ----------
    limit
        How many jobs may wait on each lane.
    """

    def __init__(self, *, limit: int = 8) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: dict[str, list[tuple[Job, Work]]] = {lane: [] for lane in LANES}
        self._known: dict[str, Job] = {}
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, args=(lane,), daemon=True, name=lane) for lane in LANES]
        for thread in self._threads:
            thread.start()

    def submit(self, lane: str, work: Work, *, key: str = "") -> Job:
        """Put ``work`` in the queue of ``lane``; waiting jobs with the same key are stopped.

        Raises
        ------
        BusyError
            If too many are waiting.
        """
        job = Job(lane=lane, key=key)
        with self._changed:
            queue = self._waiting[lane]
            for other, _ in queue:
                if key and other.key == key:
                    other.finish("stopped")
            queue[:] = [(other, todo) for other, todo in queue if not other.over and not other.stop_asked]
            if len(queue) >= self._limit or self._closed:
                raise BusyError("easel has its hands full", hint="wait until what is running has finished")
            queue.append((job, work))
            self._known[job.id] = job
            self._forget()
            self._changed.notify_all()
        return job

    def get(self, name: str) -> Job | None:
        """Return a job, or None if it is unknown or long over."""
        return self._known.get(name)

    def stop(self, name: str) -> Job | None:
        """Ask a job to end and return it; one that waits is over at once."""
        job = self._known.get(name)
        if job is None:
            return None
        with self._changed:
            if job.state == "waiting":
                job.finish("stopped")
        job.stop()
        return job

    def waiting(self, lane: str) -> int:
        """Return how many jobs of a lane wait or run."""
        return sum(job.lane == lane and not job.over for job in list(self._known.values()))

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Stop everything and let the threads end."""
        with self._changed:
            self._closed = True
            for queue in self._waiting.values():
                for job, _ in queue:
                    job.finish("stopped")
                queue.clear()
            self._changed.notify_all()
        for job in list(self._known.values()):
            if not job.over:
                job.stop()
        for thread in self._threads:
            thread.join(timeout_s)

    def _serve(self, lane: str) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._waiting[lane]))
                if self._closed:
                    return
                job, work = self._waiting[lane].pop(0)
                if job.over:
                    continue
                job.state = "running"
                job.version += 1
            try:
                work(job)
            except StoppedError:
                job.finish("stopped")
            except EaselError as error:
                job.finish("failed", error)
            except Exception as error:  # a thread that dies would leave every later job waiting for ever
                why = f"{type(error).__name__}: {error}"
                hint = "this is a mistake in easel; please report it with these words"
                job.finish("failed", EaselError(f"something went wrong inside easel ({why})", hint=hint))
            else:
                job.finish("done")

    def _forget(self) -> None:
        finished = [name for name, job in self._known.items() if job.over]
        for name in itertools.islice(finished, max(0, len(finished) - _REMEMBERED)):
            del self._known[name]
