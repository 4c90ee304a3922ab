"""Worker processes that run devices, each with the app of its own.

An app is sent once, a round's backbone once a round: whatever is large in a request is written to a
file that every worker reads for itself.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict

from shared_model.errors import FederationError
from simulations.device_call import App, become_task, call_device
from simulations.pooled_grid import Answer

__all__ = ["Processes", "Shelf", "processes"]

_LARGE = 1 << 16  # bytes
_KEPT = 4  # large records that a worker keeps


class Shelf:
    """Large records of requests, each put away once.

    Parameters
    ----------
    put
        Stores a record, and returns what a worker gets it back by.
    drop
        Takes what ``put`` returned off the shelf.
    """

    def __init__(self, put: Callable[[ArrayRecord], Any], drop: Callable[[Any], None] = lambda ticket: None) -> None:
        self._put, self._drop = put, drop
        self._kept: dict[int, tuple[ArrayRecord, Any]] = {}

    def lighten(self, message: Message) -> tuple[Message, dict[str, Any]]:
        """Return the message without its large records, and what to get them back by, by name."""
        large = {
            name: record
            for name, record in message.content.items()
            if isinstance(record, ArrayRecord) and sum(len(array.data) for array in record.values()) > _LARGE
        }
        if not large:
            return message, {}
        light = copy.copy(message)
        light.content = RecordDict({name: record for name, record in message.content.items() if name not in large})
        return light, {name: self._ticket(record) for name, record in large.items()}

    def _ticket(self, record: ArrayRecord) -> Any:
        if id(record) not in self._kept:
            while len(self._kept) >= _KEPT:
                self._drop(self._kept.pop(next(iter(self._kept)))[1])
            self._kept[id(record)] = record, self._put(record)
        return self._kept[id(record)][1]


class Processes:
    """Processes on this computer.

    Parameters
    ----------
    pool
        The processes.
    count
        How many.
    folder
        Where large records are put for them.
    """

    def __init__(self, pool: ProcessPoolExecutor, *, count: int, folder: Path) -> None:
        self._pool, self._count, self._folder = pool, count, folder
        self._number = 0
        self._shelf = Shelf(self._put, lambda path: Path(path).unlink(missing_ok=True))

    @property
    def count(self) -> int:
        """How many devices run at once."""
        return self._count

    def submit(self, message: Message, context: Context) -> Future[Answer]:
        """Begin one call of the app in a process that is free.

        The future raises `FederationError` where that process dies.
        """
        light, tickets = self._shelf.lighten(message)
        node = message.metadata.dst_node_id
        answer: Future[Answer] = Future()

        def done(future: Future[Answer]) -> None:
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                answer.set_exception(
                    FederationError(
                        f"a worker process died while node {node} or one beside it was running",
                        hint="was it killed for want of memory? lower `workers`; the same command goes on",
                    )
                )
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(future.result())

        try:
            self._pool.submit(_work, light, tickets, context).add_done_callback(done)
        except BrokenProcessPool as error:
            raise FederationError("the worker processes have died", hint="the same command goes on") from error
        return answer

    def _put(self, record: ArrayRecord) -> str:
        self._number += 1
        path = self._folder / str(self._number)
        path.write_bytes(pickle.dumps(record, protocol=5))
        return str(path)


@contextlib.contextmanager
def processes(app: App, *, count: int, threads: int) -> Iterator[Processes]:
    """Start worker processes for an app, and stop them in the end.

    Parameters
    ----------
    app
        May hold functions that are defined in other functions.
    count
        How many processes.
    threads
        Torch's threads in each.
    """
    from ray import cloudpickle  # the only pickler here that takes such functions along

    method = "forkserver" if sys.platform != "win32" else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["simulations.workers", "client.app"])
    with tempfile.TemporaryDirectory(prefix="easel-") as folder:
        made: bytes = cloudpickle.dumps(app)  # type: ignore[no-untyped-call]
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=partial(_start, made, threads))
        try:
            yield Processes(pool, count=count, folder=Path(folder))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What a worker process knows."""

    app: App | None = None
    records: dict[str, ArrayRecord] = {}  # noqa: RUF012 one process, one worker


def _start(app: bytes, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    torch.set_num_threads(threads)
    become_task()
    _Worker.app = pickle.loads(app)


def _work(light: Message, tickets: dict[str, str], context: Context) -> Answer:
    for name, path in tickets.items():
        if path not in _Worker.records:
            while len(_Worker.records) >= _KEPT:
                _Worker.records.pop(next(iter(_Worker.records)))
            _Worker.records[path] = pickle.loads(Path(path).read_bytes())
        light.content[name] = _Worker.records[path]
    assert _Worker.app is not None
    reply, cause = call_device(_Worker.app, light, context)
    return reply, cause, context
