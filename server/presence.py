"""Who is there: the process that runs a fleet, and the devices that are connected. Loads no torch."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from server.deployment import Fleet
from server.devices import Registry
from server.registrar import Registrar
from shared_model.errors import FederationError, StorageError
from shared_model.lone import alone, holder

__all__ = ["connected", "fleet_facts", "only_one", "registry", "running", "stop_fleet", "utc_now"]

_LOCK = ".easel-server.lock"


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def registry(fleet: Fleet) -> Registry:
    """Return the registry of a fleet."""
    return Registry(fleet.devices, clock=utc_now)


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
        return holder(path)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="run this as the user of the fleet") from error


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


def fleet_facts(fleet: Fleet, *, now: datetime, states: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return how the fleet stands apart from its rounds, JSON-ready.

    Parameters
    ----------
    fleet, now
        The fleet, and the time.
    states
        What :func:`connected` returned, where it is known already.
    """
    counts = dict.fromkeys(("invited", "enrolled", "revoked"), 0)
    for device in registry(fleet).devices().values():
        counts[device.state] += 1
    return {
        "folder": str(fleet.folder),
        "process": running(fleet),
        "devices": counts,
        "online": list((connected(fleet) if states is None else states).values()).count("online"),
        **fleet.facts(now=now),
    }


@contextlib.contextmanager
def only_one(fleet: Fleet) -> Iterator[None]:
    """Hold the fleet's lock, with this process's number in its file.

    Raises
    ------
    FederationError
        If another process runs this fleet.
    """
    path = fleet.folder / _LOCK
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone(path))
        except BlockingIOError as error:
            raise FederationError(
                f"another process runs this fleet: {running(fleet)}", hint=f"easel-server stop {fleet.folder}"
            ) from error
        except OSError as error:
            raise StorageError(
                f"cannot lock {path}: {error.strerror}", hint="run this as the user of the fleet"
            ) from error
        yield
