"""Runs, stops and looks at the fleet of a folder: SuperLink on loopback, gate outside, registrar between."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.deployment import Fleet
from server.devices import Registry
from server.enrolment import Enrolment
from server.gate import Gate, serve
from server.launch import Where, launch
from server.registrar import Registrar
from server.state import RoundState, StateStore
from server.superlink import SuperLink
from shared_model.errors import EaselError, FederationError, MissingError, StorageError

__all__ = ["connected", "fleet_facts", "operate", "registry", "running", "stop_fleet", "utc_now"]

_LOCK = ".easel-server.lock"
_SYNC_S = 5.0
_EXPIRES_SOON_DAYS = 30


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def registry(fleet: Fleet) -> Registry:
    """Return the registry of a fleet."""
    return Registry(fleet.devices, clock=utc_now)


def operate(fleet: Fleet, *, backbone: str, resume: bool, say: Callable[[str], None]) -> RoundState:
    """Run all rounds that are left, for the devices of this fleet.

    Parameters
    ----------
    backbone
        Weights to start from, empty for those that easel ships; not used where there is a state.
    resume
        Insist on a state to go on from.

    Raises
    ------
    MissingError
        If there is nothing to resume.
    FederationError
        If another process runs this fleet, a port is taken, or the run ended early.
    """
    config = fleet.config()
    if resume and StateStore(fleet.run).load() is None:
        raise MissingError(f"there is no run in {fleet.run}", hint=f"easel-server run {fleet.folder} starts one")
    days = fleet.facts(now=utc_now())["certificate_days_left"]
    if days < _EXPIRES_SOON_DAYS:
        say(f"note: the server's certificate ends in {days} days; easel-server init {fleet.folder} --renew-certificate")
    with _only_one(fleet):
        _require_free(config.listen, config.port)
        where = Where(
            "127.0.0.1",
            config.control_port,
            {"ca": fleet.ca, "cert": fleet.certificate, "key": fleet.key},
            node_auth=True,
            beside=lambda link: _beside(fleet, link, say=say),
        )
        return launch(fleet.federation, run_dir=fleet.run, backbone=backbone, where=where, say=say)


def connected(fleet: Fleet) -> dict[str, str]:
    """Return Flower's word for each enrolled device (``online``, ...); empty if the fleet is not running."""
    if running(fleet) is None:
        return {}
    registrar = Registrar(f"127.0.0.1:{fleet.config().control_port}", ca=fleet.ca, registry=registry(fleet))
    try:
        return registrar.sync(change=False).states
    except FederationError:
        return {}
    finally:
        registrar.close()


def running(fleet: Fleet) -> int | None:
    """Return the process that runs this fleet, or None."""
    path = fleet.folder / _LOCK
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="run this as the user of the fleet") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(handle)
    return None


def stop_fleet(fleet: Fleet, *, patience_s: float = 90.0) -> bool:
    """Ask the process that runs this fleet to end, and wait; False if none runs.

    Finished rounds are saved; the one under way is repeated later under the charge it has.

    Raises
    ------
    FederationError
        If it does not end in time.
    """
    pid = running(fleet)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise StorageError(
            f"process {pid} belongs to another user", hint="run this as the user of the fleet"
        ) from error
    end = time.monotonic() + patience_s
    while running(fleet) is not None:
        if time.monotonic() >= end:
            raise FederationError(f"process {pid} did not end within {patience_s:g} s", hint="try again in a minute")
        time.sleep(0.1)
    return True


def fleet_facts(fleet: Fleet, *, now: datetime) -> dict[str, Any]:
    """Return how the fleet stands apart from its rounds, JSON-ready."""
    counts = dict.fromkeys(("invited", "enrolled", "revoked"), 0)
    for device in registry(fleet).devices().values():
        counts[device.state] += 1
    states = list(connected(fleet).values())
    return {
        "folder": str(fleet.folder),
        "process": running(fleet),
        "devices": counts,
        "online": states.count("online"),
        **fleet.facts(now=now),
    }


@contextlib.contextmanager
def _only_one(fleet: Fleet) -> Iterator[None]:
    """Hold the fleet's lock, with this process's number in its file."""
    path = fleet.folder / _LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror}", hint="run this as the user of the fleet") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FederationError(
                f"another process runs this fleet: {running(fleet)}", hint=f"easel-server stop {fleet.folder}"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _beside(fleet: Fleet, link: SuperLink, *, say: Callable[[str], None]) -> Iterator[None]:
    """Keep the SuperLink's list of devices, and let devices in through the gate."""
    config, known = fleet.config(), registry(fleet)
    registrar = Registrar(link.address, ca=fleet.ca, registry=known)
    log = _Log(fleet.run / "events.jsonl")

    def follow() -> None:
        done = registrar.sync()
        if done.added or done.removed:
            log.write("devices", added=done.added, removed=done.removed, enrolled=len(done.states))

    gate = Gate(Enrolment(fleet, known, changed=follow), known, upstream=f"https://{link.address}", ca=fleet.ca)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(follow, ended, log), name="registrar", daemon=True)
    follow()
    with serve(gate, host=config.listen, port=config.port, certificate=fleet.certificate, key=fleet.key):
        log.write("started", port=config.port)
        say(f"devices come to port {config.port} ({', '.join(fleet.facts(now=utc_now())['hosts'])})")
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join(30.0)
            registrar.close()
            log.write("stopped")


def _keep(follow: Callable[[], None], ended: threading.Event, log: _Log) -> None:
    """Follow the registry until the end; a SuperLink that does not answer is asked again."""
    well = True
    while not ended.wait(_SYNC_S):
        try:
            follow()
            well = True
        except EaselError as error:
            if well and not ended.is_set():
                log.write("trouble", what=error.message)
            well = False


class _Log:
    """Structured events, one JSON object a line: counts and ports, no name and no address of any device."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"time": utc_now().isoformat(timespec="seconds"), "event": event, **values})
        with self._lock, contextlib.suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "a", encoding="utf-8") as stream:
                stream.write(line + "\n")


def _require_free(host: str, port: int) -> None:
    """Find out before anything starts that the gate's port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.bind((host, port))
    except OSError as error:
        raise FederationError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="server.toml names the address and the port"
        ) from error
