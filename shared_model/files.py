"""Atomic, durable file writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from shared_model.errors import StorageError

__all__ = ["read_bytes", "write_atomic"]

_PIECE = 1 << 20


def write_atomic(path: Path | str, data: bytes, *, mode: int = 0o644) -> Path:
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

    Raises
    ------
    StorageError
        If the disk is full, the folder is not writable, or ``path`` is a folder.
    """
    target = Path(path)
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:60]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        temporary = ""
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _storage_error(target, error) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    return target


def read_bytes(path: Path | str, *, limit: int = 1 << 30) -> bytes:
    """Read a whole file, refusing one larger than ``limit`` bytes.

    Raises
    ------
    StorageError
        If the file cannot be read or is larger than ``limit``.
    """
    source = Path(path)
    try:
        with source.open("rb") as stream:
            data = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
            while len(data) <= limit and (more := stream.read(_PIECE)):  # a pipe tells no size beforehand
                data += more
    except OSError as error:
        raise StorageError(
            f"cannot read {source}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    if len(data) > limit:
        raise StorageError(f"{source} is larger than {limit} bytes", hint="is this the right file?")
    return data


def _storage_error(target: Path, error: OSError) -> StorageError:
    hints = {
        errno.ENOSPC: "the disk is full: free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
        errno.EACCES: "no permission to write there: choose another folder",
        errno.EROFS: "that file system is read-only: choose another folder",
    }
    hint = hints.get(error.errno or 0, "check the path and its permissions")
    return StorageError(f"cannot write {target}: {error.strerror or error}", hint=hint)
