"""Worker processes that run devices, each with the app of its own.

An app is sent once, a round's backbone once a round: whatever is large in a request is written to a
file that every worker reads for itself. What is large in a reply comes back through a file too, one for
each call that is under way (:mod:`simulations.slots`).
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict

from client.placement import COMPUTE
from shared_model.errors import FederationError
from simulations.allocator import keep_freed_memory
from simulations.device_call import App, become_task, call_device
from simulations.pooled_grid import Answer
from simulations.slots import LARGE, Slot, follow_parent, shared_folder

__all__ = ["Processes", "Shelf", "processes"]

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
            if isinstance(record, ArrayRecord) and sum(len(array.data) for array in record.values()) > LARGE
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
    folder, spare
        Where what is large is put for them, in memory, and where a request goes when that is full.
    """

    def __init__(self, pool: ProcessPoolExecutor, *, count: int, folder: Path, spare: Path) -> None:
        self._pool, self._count, self._folder, self._spare = pool, count, folder, spare
        self._number = 0
        self._free: SimpleQueue[Slot] = SimpleQueue()
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
        slot = self._slot()

        def done(future: Future[bytes]) -> None:
            try:
                answer.set_result(slot.unpack(future.result()))
            except BrokenProcessPool:
                answer.set_exception(
                    FederationError(
                        f"a worker process died while node {node} or one beside it was running",
                        hint="was it killed for want of memory? lower `workers`; the same command goes on",
                    )
                )
            except BaseException as error:
                answer.set_exception(error)
            self._free.put(slot)

        try:
            call = self._pool.submit(_work, slot.path, slot.pack((light, tickets, context)))
        except BrokenProcessPool as error:
            self._free.put(slot)
            raise FederationError("the worker processes have died", hint="the same command goes on") from error
        call.add_done_callback(done)
        return answer

    def _slot(self) -> Slot:
        """Return a slot that nobody uses; there are as many as calls have been under way at once."""
        with contextlib.suppress(Empty):
            return self._free.get_nowait()
        self._number += 1
        return Slot(self._folder / f"slot-{self._number}")

    def close(self) -> None:
        """Close the slots, when the processes have ended."""
        with contextlib.suppress(Empty):
            while True:
                self._free.get_nowait().close()

    def _put(self, record: ArrayRecord) -> str:
        self._number += 1
        data = pickle.dumps(record, protocol=5)
        path = self._folder / str(self._number)
        try:
            path.write_bytes(data)
        except OSError:  # memory is full
            path.unlink(missing_ok=True)
            path = self._spare / str(self._number)
            path.write_bytes(data)
        return str(path)


@contextlib.contextmanager
def processes(
    app: App, *, count: int, threads: int, method: str = "", places: Sequence[str] = ("cpu",)
) -> Iterator[Processes]:
    """Start worker processes for an app, and stop them in the end.

    Parameters
    ----------
    app
        May hold functions that are defined in other functions.
    count
        How many processes.
    threads
        Torch's threads in each.
    method
        How Python starts them: ``"forkserver"`` (the default where there is one) or ``"spawn"``.
    places
        Where they compute, in turn (:func:`client.placement.dealt`).
    """
    from ray import cloudpickle  # the only pickler here that takes such functions along

    method = method or ("forkserver" if sys.platform != "win32" else "spawn")
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["simulations.workers", "client.app"])
    with shared_folder() as folder, tempfile.TemporaryDirectory(prefix="easel-") as name:
        spare = Path(name)
        made: bytes = cloudpickle.dumps(app)  # type: ignore[no-untyped-call]
        turn = context.Value("i", 0)
        start = partial(_start, made, threads, (folder, spare), tuple(places), turn)
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=start)
        workers = Processes(pool, count=count, folder=folder, spare=spare)
        try:
            yield workers
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            workers.close()


class _Worker:
    """What a worker process knows."""

    app: App | None = None
    place: str = "cpu"
    records: dict[str, ArrayRecord] = {}  # noqa: RUF012 one process, one worker
    slots: dict[Path, Slot] = {}  # noqa: RUF012


def _start(app: bytes, threads: int, folders: tuple[Path, ...], places: tuple[str, ...], turn: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    follow_parent(*folders)
    keep_freed_memory()
    torch.set_num_threads(threads)
    become_task()
    _Worker.app = pickle.loads(app)
    with turn.get_lock():
        _Worker.place = places[turn.value % len(places)]
        turn.value += 1


def _work(path: Path, packed: bytes) -> bytes:
    """Run one device; both ways what is large goes through the slot at ``path``."""
    if path not in _Worker.slots:
        _Worker.slots[path] = Slot(path)
    slot = _Worker.slots[path]
    light, tickets, context = slot.unpack(packed)
    for name, ticket in tickets.items():
        light.content[name] = _record(ticket)
    assert _Worker.app is not None
    context.node_config[COMPUTE] = _Worker.place
    reply, cause = call_device(_Worker.app, light, context)
    return slot.pack((reply, cause, context))


def _record(path: str) -> ArrayRecord:
    """Return a large record of a request, read once."""
    if path not in _Worker.records:
        while len(_Worker.records) >= _KEPT:
            _Worker.records.pop(next(iter(_Worker.records)))
        _Worker.records[path] = pickle.loads(Path(path).read_bytes())
    return _Worker.records[path]
