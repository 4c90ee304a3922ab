"""Flower's SuperNode of this device as a process: started, watched and stopped by its id.

It runs in an empty folder (Flower imports from the current folder first), installs nothing at run time
and reports to nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.membership import Membership
from shared_model.errors import MissingError, StorageError
from shared_model.files import write_atomic
from shared_model.processes import end, end_marked, mark

__all__ = ["SuperNode", "command", "end_orphan"]

_QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
}
_PATIENCE_S = 20.0
_LARGEST_LOG = 1 << 20
# What Flower says when it is turned away; at a 401 of the gate it ends "gracefully", unasked.
_REFUSALS = ("Failed to activate", "must be registered", "SuperNode terminated gracefully")
_PID = "supernode.pid"


def command(folder: Path, membership: Membership, *, port: int) -> list[str]:
    """Return the command of a device's SuperNode; ``port`` is for its own processes, on loopback.

    Where the device's folder is goes into a file, since Flower's command line takes no quote in a path.

    Raises
    ------
    MissingError
        If Flower is not installed.
    """
    path = Path(sys.executable).parent / "flower-supernode"
    if not path.exists():
        raise MissingError("Flower is not installed", hint="pip install 'easel[client]'")
    text = f"device-dir = {json.dumps(str(folder), ensure_ascii=False)}\n"
    settings = write_atomic(membership.node(folder) / "node.toml", text.encode(), mode=0o600)
    return [
        str(path),
        *("--root-certificates", str(membership.ca(folder))),
        *("--superlink", membership.server),
        *("--auth-supernode-private-key", str(membership.key(folder))),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--node-config", str(settings)),
    ]


class SuperNode:
    """A running SuperNode.

    Parameters
    ----------
    arguments
        Its command.
    home
        Its own folder: log, process number, Flower's files.
    environ
        What it inherits.
    """

    def __init__(self, arguments: Sequence[str], *, home: Path, environ: Mapping[str, str]) -> None:
        self._log = home / "supernode.log"
        self._pid = home / _PID
        try:
            (home / "empty").mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._log.exists() and self._log.stat().st_size > _LARGEST_LOG:
                self._log.replace(self._log.with_suffix(".log.1"))
            handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._start = os.fstat(handle).st_size
            path = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
            try:
                self._process = subprocess.Popen(
                    arguments,
                    cwd=home / "empty",
                    env={**environ, **_QUIET, "FLWR_HOME": str(home / "flwr"), "PATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=handle,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                )
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(f"cannot start {arguments[0]}: {error.strerror}", hint="easel doctor") from error
        mark(self._pid, self.pid)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def running(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def refused(self) -> bool:
        """Say whether the server turned it away (as far as its log tells)."""
        with contextlib.suppress(OSError), self._log.open("rb") as stream:
            stream.seek(self._start)
            text = stream.read(_LARGEST_LOG).decode("utf-8", "replace")
            return any(word in text for word in _REFUSALS)
        return False

    def stop(self) -> None:
        """Ask it to end (it signs off at the server), wait, and end its session."""
        end(self.pid, gone=lambda: self._process.poll() is not None, patience_s=_PATIENCE_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        self._pid.unlink(missing_ok=True)


def end_orphan(home: Path) -> bool:
    """End a SuperNode whose supervisor was killed; True if there was one."""
    return end_marked(home / _PID, patience_s=_PATIENCE_S)
