"""Large bytes between processes of this computer, through files that lie in memory instead of through pipes.

A message is pickled without its large byte strings; those are written into a file of its own, a slot, which
is used again for the next message. Files rather than mapped memory: whoever reads gets bytes, as from a
network; a full disk is an error that can be handled, not a signal that kills; and there is no tracker of
resources to be outlived.

Guarantees
    What is unpacked equals what was packed. Where a slot cannot be written (memory of a container is often
    limited to 64 MB) the message is packed whole, and only slower.
    Nothing stays behind: the folder goes when its block ends, by whatever exception. Where the process is
    killed its workers remove it (:func:`follow_parent`); where they are killed too, the next run does.
Assumes
    One side at a time uses a slot. Both are of one user and one program: messages are unpickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

__all__ = ["LARGE", "Slot", "follow_parent", "shared_folder"]

#: Bytes above which a byte string goes through a slot.
LARGE = 1 << 16
_PREFIX = "easel-slots-"
_LOCK = "lock"
_IN_MEMORY = Path("/dev/shm")


class Slot:
    """A file through which messages go from one process to another, one at a time.

    Parameters
    ----------
    path
        The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)

    def pack(self, value: object) -> bytes:
        """Return what :meth:`unpack` takes on the other side; large byte strings are left in the file."""
        stream = io.BytesIO()
        try:
            _Light(stream, self._file).dump(value)
        except OSError:  # no space: the pipe has some
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            return pickle.dumps(value, protocol=5)
        return stream.getvalue()

    def unpack(self, packed: bytes) -> Any:
        """Return what was packed into this slot last."""
        return _Whole(io.BytesIO(packed), self._file).load()

    def close(self) -> None:
        """Close the file; it stays where it is."""
        self._file.close()


class _Light(pickle.Pickler):
    """Leaves large byte strings in a file."""

    def __init__(self, stream: io.BytesIO, file: io.FileIO) -> None:
        super().__init__(stream, protocol=5)
        self._file, self._end = file, 0
        self._places: dict[int, tuple[int, int]] = {}

    def persistent_id(self, value: object) -> tuple[int, int] | None:
        if type(value) is not bytes or len(value) < LARGE:
            return None
        if id(value) not in self._places:
            self._places[id(value)] = self._end, len(value)
            self._file.seek(self._end)
            rest = memoryview(value)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._end += len(value)
        return self._places[id(value)]


class _Whole(pickle.Unpickler):
    """Takes them from there."""

    def __init__(self, stream: io.BytesIO, file: io.FileIO) -> None:
        super().__init__(stream)
        self._file = file

    def persistent_load(self, place: tuple[int, int]) -> bytes:
        start, count = place
        self._file.seek(start)
        found = self._file.read(count)
        while len(found) < count:  # above 2 GiB a read gives less
            more = self._file.read(count - len(found))
            if not more:
                raise EOFError(f"a slot holds {len(found)} of {count} bytes")
            found += more
        return found


@contextlib.contextmanager
def shared_folder(place: Path | None = None) -> Iterator[Path]:
    """Make a folder for slots, in memory where there is such a place, and remove it with the block.

    Parameters
    ----------
    place
        Where to make it; by default ``/dev/shm``, else the folder for temporary files.

    Notes
    -----
    The folder holds a locked file for as long as this process lives. Folders of this user whose lock is
    free were left behind by a process that was killed, and are removed first.
    """
    where = place or (_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir()))
    _sweep(where)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=where, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder


def _sweep(where: Path) -> None:
    """Remove what killed processes of this user have left behind."""
    for lock in where.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):  # another user's, in use, or just gone
            with lock.open("r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)


def follow_parent(*folders: Path) -> None:
    """End this process with the one that started it, however that ends, and remove its folders then."""
    parent = parent_process()
    assert parent is not None

    def end(patience_s: float | None) -> None:
        if connection.wait([parent.sentinel], patience_s):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    signal.signal(signal.SIGTERM, lambda number, frame: end(1.0))  # it may have been sent to both
    threading.Thread(target=end, args=(None,), name="follow-parent", daemon=True).start()
