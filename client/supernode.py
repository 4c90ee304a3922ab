"""Flower's SuperNode of this device as a process: started, watched and stopped by its id.

It runs in an empty folder (Flower imports from the current folder first), installs nothing at run time
and reports to nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.membership import Membership
from shared_model.errors import MissingError, StorageError
from shared_model.files import write_atomic

__all__ = ["SuperNode", "command", "end_orphan"]

_QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
}
_PATIENCE_S = 20.0
_LARGEST_LOG = 1 << 20
_REFUSALS = ("Failed to activate", "must be registered", "401 Unauthorized", "not enrolled")
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
                )
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(f"cannot start {arguments[0]}: {error.strerror}", hint="easel doctor") from error
        write_atomic(self._pid, f"{self.pid} {_born(self.pid)}\n".encode(), mode=0o600)

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
        _end(self._process.pid, wait=self._wait)
        self._pid.unlink(missing_ok=True)

    def _wait(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        return self._process.poll() is not None


def end_orphan(home: Path) -> bool:
    """End a SuperNode whose supervisor was killed; True if there was one.

    A number that the system has given to another process since is left alone (its start time differs).
    """
    path = home / _PID
    try:
        pid, born = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    found = pid.isdigit() and _born(int(pid)) == born and born != ""
    if found:
        _end(int(pid), wait=lambda: _gone(int(pid), born))
    path.unlink(missing_ok=True)
    return found


def _gone(pid: int, born: str) -> bool:
    time.sleep(0.1)
    return _born(pid) != born


def _end(pid: int, *, wait: object) -> None:
    """TERM, wait until ``wait()`` is True, then kill what is left of its session."""
    assert callable(wait)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _PATIENCE_S
        while not wait() and time.monotonic() < end:
            pass
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    wait()


def _born(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty if it is gone or a zombie."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] == "Z" else words[19]
