"""Where this device's fleet serves its releases, from what joining left in the device folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from shared_model.errors import InputError, MissingError, StorageError
from shared_model.files import read_bytes
from shared_model.introduction import Introducer
from shared_model.signatures import read_public

__all__ = ["PORT", "Whence", "whence"]

PORT = 39320  # of the release service, unless told otherwise


@dataclass(frozen=True)
class Whence:
    """Address, authority and keys.

    Attributes
    ----------
    address
        ``HOST:PORT`` of the release service.
    ca
        Certificate of the fleet's authority, PEM.
    introducer
        Signs calls with the device's key.
    root
        The signing key (public, 32 bytes) that the device got when it joined.
    """

    address: str
    ca: bytes
    introducer: Introducer
    root: bytes


def whence(folder: Path, *, address: str = "") -> Whence:
    """Read the device folder: ``membership.json``, ``ca.pem``, ``node.key`` and ``signing.pub``.

    Parameters
    ----------
    folder
        The device folder.
    address
        ``HOST:PORT``; empty: the host of the fleet's server, at port 39320.

    Raises
    ------
    MissingError
        If this device has joined no fleet.
    InputError
        If the address is none.
    """
    membership = folder / "membership.json"
    if not membership.exists():
        raise MissingError(f"{folder} has joined no fleet", hint="easel join --server HOST:PORT --code CODE ...")
    try:
        server = str(json.loads(read_bytes(membership, limit=1 << 16))["server"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{membership} is damaged", hint="easel leave, then join with a new code") from error
    host = server.rpartition(":")[0]
    given = address or f"{host}:{PORT}"
    name, _, port = given.rpartition(":")
    if not name or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise InputError(f"{given!r} is no address", hint="write HOST:PORT")
    introducer = Introducer.load(folder / "node.key")
    return Whence(given, read_bytes(folder / "ca.pem", limit=1 << 20), introducer, read_public(folder / "signing.pub"))
