"""Starts Flower's own processes for one federation, talks to them, and stops them by their ids.

Everything runs from an empty folder: Flower's workers import from the current folder first, and
another ``client`` or ``server`` there would silently be used instead of ours. Nothing is installed at
run time and nothing is reported to anybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.bundle import run_config_toml, write_bundle
from shared_model.errors import FederationError, MissingError, StorageError
from shared_model.processes import end_marked, mark

__all__ = ["SuperLink", "end_orphan", "environment", "program", "stop", "superlink"]

_QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_PID = "superlink.pid"
_ANSWER_S = 120.0  # for one flwr command
_START_S = 180.0  # it ends the wait itself when it cannot start; a busy machine may take long


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink.

    Parameters
    ----------
    process
        The process.
    address
        ``host:port`` where this machine reaches it.
    folder
        Its own folder: app bundle, Flower's home, log.
    """

    process: subprocess.Popen[bytes]
    address: str
    folder: Path

    def submit(self, values: Mapping[str, Any], *, app: Path | None = None, federation_config: str = "") -> str:
        """Start a run with this run-config and return its id.

        Parameters
        ----------
        values
            The flat run-config.
        app
            Folder of the Flower app; the bundle of this installation by default.
        federation_config
            Flower's settings of a simulation, ``key=value`` pairs.

        Raises
        ------
        FederationError
            If Flower refuses it.
        """
        path = self.folder / "run-config.toml"
        path.write_text(run_config_toml(dict(values)) + "\n")
        extra = ["--federation-config", federation_config] if federation_config else []
        command = [
            "run",
            str(app or self.folder / "app"),
            "easel",
            "--run-config",
            str(path),
            "--format",
            "json",
            *extra,
        ]
        answer = self._flwr(command)
        if not answer.get("success"):
            raise FederationError(f"Flower refused the run: {answer.get('error-message', answer)}")
        return str(answer["run-id"])

    def status(self, run: str) -> str:
        """Return Flower's word for the run, for example ``running`` or ``finished:completed``."""
        answer = self._flwr(["list", "easel", "--run-id", run, "--format", "json"])
        runs = answer.get("runs", [])
        return str(runs[0]["status"]) if runs else "unknown"

    def run_log(self, run: str) -> str:
        """Return what the ServerApp of a run has logged."""
        return self._call(["log", run, "easel", "--show"]).stdout

    def log(self) -> str:
        """Return the end of the SuperLink's own log."""
        return (self.folder / "superlink.log").read_text(errors="replace")[-8000:]

    def _call(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [program("flwr"), *arguments],
                cwd=self.folder / "empty",
                env=environment(self.folder),
                capture_output=True,
                text=True,
                timeout=_ANSWER_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FederationError(
                f"flwr {arguments[0]} gave no answer within {_ANSWER_S:g} s",
                hint="the machine may be overloaded; the run itself goes on",
            ) from error

    def _flwr(self, arguments: list[str]) -> dict[str, Any]:
        done = self._call(arguments)
        start = done.stdout.find("{")
        with contextlib.suppress(json.JSONDecodeError):
            found, _ = json.JSONDecoder().raw_decode(done.stdout[max(start, 0) :])
            if isinstance(found, dict):
                return found
        raise FederationError(f"flwr {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")


@contextlib.contextmanager
def superlink(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int,
    certificates: Mapping[str, Path] | None = None,
    simulation: bool = False,
    node_auth: bool = False,
    database: bool = True,
) -> Iterator[SuperLink]:
    """Run a SuperLink as long as the block lasts.

    Parameters
    ----------
    folder
        For its bundle, home and log; private to it.
    host, port
        Where it listens.
    certificates
        Files under ``ca``, ``cert`` and ``key``; the certificate must be good for ``host``, and for
        127.0.0.1 where that is 0.0.0.0. Without them there is no encryption, which is accepted on
        the loopback interface only.
    simulation
        Simulate the devices (Flower's Ray engine) instead of waiting for SuperNodes.
    node_auth
        Accept only SuperNodes whose keys are registered; needs certificates.
    database
        Keep nodes and messages in a file, so that another start goes on with them; else in memory.

    Raises
    ------
    FederationError
        If it would be unencrypted off loopback, or does not start.
    """
    if certificates is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise FederationError(
            f"refusing to listen on {host} without encryption", hint="give --ca, --cert and --key, or use 127.0.0.1"
        )
    address = f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    _prepare(folder, address, certificates)
    command = [program("flower-superlink"), "--host", host, "--port", str(port)]
    command += ["--disable-runtime-dependency-installation"]
    if simulation:
        command += ["--simulation"]
    elif database:
        command += ["--database", str(folder / "superlink.db")]
    command += ["--enable-supernode-auth"] if node_auth else []
    if certificates is None:
        command += ["--insecure"]
    else:
        for option, name in (("--ssl-certfile", "cert"), ("--ssl-keyfile", "key"), ("--ssl-ca-certfile", "ca")):
            command += [option, str(certificates[name])]
    with (folder / "superlink.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder / "empty",
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    link = SuperLink(process, address, folder)
    mark(folder / _PID, process.pid)
    try:
        _await_start(link)
        yield link
    finally:
        stop(process)
        (folder / _PID).unlink(missing_ok=True)


def end_orphan(folder: Path) -> bool:
    """End the SuperLink in ``folder`` whose launcher was killed; True if there was one.

    Only for callers who know that no launcher of it lives.
    """
    return end_marked(folder / _PID)


def environment(home: Path) -> dict[str, str]:
    """Return this process's environment with a Flower home of its own and nothing phoning out.

    Flower starts further programs of its own by name, so ours come first on the path.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **_QUIET, "FLWR_HOME": str(home / "flwr"), "PATH": path}


def program(name: str) -> str:
    """Return the path of one of Flower's programs, of the same installation as this Python.

    Raises
    ------
    MissingError
        If it is not installed.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise MissingError(f"{name} is not installed beside {sys.executable}", hint="pip install 'easel[server]'")
    return str(path)


def stop(process: subprocess.Popen[bytes], *, patience_s: float = 15.0) -> None:
    """Ask a process to end, wait, and end its whole session if it does not."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(patience_s)


def _prepare(folder: Path, address: str, certificates: Mapping[str, Path] | None) -> None:
    try:
        for name in ("empty", "flwr"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_bundle(folder / "app")
        trust = (
            "insecure = true" if certificates is None else f"root-certificates = {json.dumps(str(certificates['ca']))}"
        )
        text = f'[superlink]\ndefault = "easel"\n\n[superlink.easel]\naddress = "{address}"\n{trust}\n'
        (folder / "flwr" / "config.toml").write_text(text)
    except OSError as error:
        raise StorageError(f"cannot use {folder}: {error.strerror}", hint="choose another run-dir") from error


def _await_start(link: SuperLink) -> None:
    """Wait until the SuperLink listens; it does so only once it is ready."""
    host, port = link.address.rsplit(":", 1)
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if link.process.poll() is not None:
            raise FederationError(f"the SuperLink ended at once: {link.log().strip()[-500:]}")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=2.0):
            return
        time.sleep(0.2)
    raise FederationError(f"the SuperLink did not answer within {_START_S:g} s", hint="is the port free?")
