"""Where a daemon can be found: a folder of the owner's with its socket, a lock, a record and a token.

The folder is ``0700``, what is in it ``0600``. The lock is the kernel's: it goes with the process, however that ends,
so a second daemon is refused exactly as long as there is a first one, and what a killed one left behind is known to be
stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from client.paths import home_folder
from shared_model.errors import InputError, StorageError
from shared_model.files import write_atomic

__all__ = ["Place", "Record", "loopback"]

_MAX_SOCKET_BYTES = 100  # of its path; the kernel takes 107, on a Mac 103
_PATIENCE_S = 0.5


@dataclass(frozen=True)
class Record:
    """Which daemon is running.

    Attributes
    ----------
    address
        For gRPC: ``unix:...`` or ``127.0.0.1:PORT``.
    pid
        Its process.
    version
        Of easel.
    token
        What a client must show; empty on a Unix socket. Never printed.
    """

    address: str
    pid: int
    version: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Place:
    """The folder of one owner's daemon."""

    folder: Path

    @classmethod
    def default(cls, *, environ: Mapping[str, str] | None = None) -> Place:
        """Return the folder ``daemon`` in the owner's home, without making it."""
        return cls(home_folder(environ=environ) / "daemon")

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        return self.folder / "studio.sock"

    @property
    def address(self) -> str:
        """The socket as gRPC spells it.

        Raises
        ------
        InputError
            If the path is longer than a socket's may be.
        """
        if len(os.fsencode(self.socket)) > _MAX_SOCKET_BYTES:
            hint = "set EASEL_HOME to a shorter path, or use --tcp 127.0.0.1:PORT"
            raise InputError(f"{self.socket} is too long for the path of a socket", hint=hint)
        return "unix:" + quote(str(self.socket))

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Be the one daemon of this folder; what a killed one left is removed, and at the end everything is.

        Raises
        ------
        InputError
            If another one is running.
        StorageError
            If the folder cannot be used, or others may write to it.
        """
        self._prepare()
        with self._lock_file() as handle:
            until = time.monotonic() + _PATIENCE_S  # somebody who only looks holds the lock for a moment
            while not _locked(handle, fcntl.LOCK_EX):
                if time.monotonic() > until:
                    record = self._read()
                    who = f" (process {record.pid})" if record else ""
                    raise InputError(f"a daemon is running already{who}", hint="easel serve --stop ends it")
                time.sleep(0.02)
            self._clear()
            try:
                yield
            finally:
                self._clear()

    def announce(self, record: Record) -> None:
        """Say where the daemon is, for its clients; readable by the owner alone."""
        write_atomic(self.folder / "daemon.json", json.dumps(asdict(record)).encode(), mode=0o600)

    def running(self) -> Record | None:
        """Return which daemon is running; ``None``: none is."""
        try:
            with self._lock_file(make=False) as handle:
                if _locked(handle, fcntl.LOCK_SH):
                    return None
        except StorageError:
            return None
        return self._read()

    def _prepare(self) -> None:
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            owner = self.folder.lstat().st_uid
            if self.folder.is_symlink() or owner != os.geteuid():
                raise StorageError(f"{self.folder} belongs to somebody else", hint="remove it, or set EASEL_HOME")
            os.chmod(self.folder, 0o700)
        except OSError as error:
            raise StorageError(
                f"cannot use {self.folder}: {error.strerror}", hint="set EASEL_HOME to a folder that you may write to"
            ) from error

    @contextlib.contextmanager
    def _lock_file(self, *, make: bool = True) -> Iterator[int]:
        try:
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror}") from error
        try:
            yield handle
        finally:
            os.close(handle)

    def _read(self) -> Record | None:
        try:
            return Record(**json.loads((self.folder / "daemon.json").read_bytes()))
        except (OSError, TypeError, ValueError):
            return None

    def _clear(self) -> None:
        for path in (self.socket, self.folder / "daemon.json"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def loopback(address: str) -> str:
    """Check ``HOST:PORT`` and return it; the host must be this computer's own loopback.

    Raises
    ------
    InputError
        If it is not, or no address at all.
    """
    host, _, port = address.rpartition(":")
    hint = "such as --tcp 127.0.0.1:7171; port 0 takes a free one"
    try:
        number = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        valid = port.isascii() and port.isdigit() and int(port) < 1 << 16
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"{address!r} is not an address", hint=hint)
    if not number.is_loopback:
        raise InputError(f"{address} can be reached from other computers; easel serves this one alone", hint=hint)
    return f"[{number}]:{port}" if number.version == 6 else f"{number}:{port}"


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
