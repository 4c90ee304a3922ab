"""Atomic, durable file writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from shared_model.errors import StorageError

__all__ = ["move_new", "read_bytes", "write_atomic", "write_new"]

_PIECE = 1 << 20


def write_atomic(path: Path | str, data: bytes, *, mode: int = 0o644, durable: bool = True) -> Path:
    """Write ``data`` to ``path`` so that a crash at any moment leaves the old or the new file.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is
    renamed over ``path``; then the folder itself is flushed. Missing folders are made.

    Parameters
    ----------
    path
        Where to write.
    data
        The whole content.
    mode
        Permission bits of the new file; private things use ``0o600``.
    durable
        Flush to the disk. Without it a killed process still leaves the old or the new file, a computer
        that loses power may not: enough where everything can be made again.

    Raises
    ------
    StorageError
        If the disk is full, the folder is not writable, or ``path`` is a folder.
    """
    target = Path(path)
    _write(target, data, mode=mode, durable=durable, settle=os.replace)
    return target


def write_new(path: Path | str, data: bytes, *, mode: int = 0o644) -> bool:
    """Write like :func:`write_atomic`, but leave alone what has the name by then; returns whether it was free."""
    settled = []
    _write(Path(path), data, mode=mode, durable=True, settle=lambda old, new: settled.append(move_new(old, new)))
    return settled == [True]


def move_new(source: Path | str, target: Path | str) -> bool:
    """Give a finished file another name in the same file system, unless something has it; returns whether it was free.

    Raises
    ------
    OSError
        If it cannot be done.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # no second names there (FAT): take the name with an empty file, then replace that
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        os.replace(source, target)
    else:
        os.unlink(source)
    return True


def _write(target: Path, data: bytes, *, mode: int, durable: bool, settle: Callable[[str, Path], object]) -> None:
    """Write a temporary file beside the target and have it settled there; what is left of it goes."""
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:60]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        settle(temporary, target)
        if durable:
            _flush_folder(target.parent)
    except OSError as error:
        raise _storage_error(target, error) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):  # settled: gone already
                os.unlink(temporary)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path | str, *, limit: int = 1 << 30, ordinary: bool = False) -> bytes:
    """Read a whole file, refusing one larger than ``limit`` bytes.

    With ``ordinary`` pipes and devices are refused: they may never begin, or never end.

    Raises
    ------
    StorageError
        If it cannot be read, is larger than ``limit``, or is not as ordinary as asked for.
    """
    source = Path(path)
    try:
        with open(source, "rb", opener=_open_at_once if ordinary else None) as stream:
            facts = os.fstat(stream.fileno())
            if ordinary and not stat.S_ISREG(facts.st_mode):
                raise StorageError(f"{source} is not an ordinary file", hint="is this the right file?")
            data = stream.read(min(limit, facts.st_size) + 1)
            while len(data) <= limit and (more := stream.read(_PIECE)):  # a pipe tells no size beforehand
                data += more
    except OSError as error:
        raise StorageError(
            f"cannot read {source}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    if len(data) > limit:
        raise StorageError(f"{source} is larger than {limit} bytes", hint="is this the right file?")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody at the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _storage_error(target: Path, error: OSError) -> StorageError:
    hints = {
        errno.ENOSPC: "the disk is full: free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
        errno.EACCES: "no permission to write there: choose another folder",
        errno.EROFS: "that file system is read-only: choose another folder",
    }
    hint = hints.get(error.errno or 0, "check the path and its permissions")
    return StorageError(f"cannot write {target}: {error.strerror or error}", hint=hint)
