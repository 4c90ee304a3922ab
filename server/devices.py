"""Who belongs to the fleet: invited, enrolled and revoked devices, in one locked, atomically written file.

``devices.json`` (0600) is the truth; Flower's SuperLink and the release service follow it::

    {"format": "easel-devices-1",
     "devices": {"NAME": {"state": "invited" | "enrolled" | "revoked", "public_key": "ecdsa-sha2-... AAAA...",
                          "code": "<sha256>", "invited": "...", "expires": "...", "enrolled": "...", "revoked": "..."}}}

A name is the operator's word for a device. The server keeps no address, no count and nothing else
about it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hmac
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared_model.errors import FederationError, InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.invitation import Invitation, enrol_message, leave_message

__all__ = ["Device", "Registry"]

FORMAT = "easel-devices-1"
LARGEST_FILE = 1 << 28
_CLOCKS_APART = timedelta(minutes=5)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Device:
    """One device of the fleet; times are ISO 8601 in UTC, empty where they have not come."""

    name: str
    state: str
    public_key: str = ""
    code: str = ""
    invited: str = ""
    expires: str = ""
    enrolled: str = ""
    revoked: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what ``device list --json`` says: everything but the hash of the code."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "code"}


class Registry:
    """The file of devices.

    Guarantees
    ----------
    Readers see the old or the new file, whatever is killed when. Two processes that change it wait
    for each other, and no change is lost. A code works once, before it expires; only its hash is
    kept. A name never gets a second key, and a key never a second name.

    Edge cases
    ----------
    A device that enrols with a code it has used already, with the same key, is told yes again: its
    first answer may have been lost.

    Parameters
    ----------
    path
        ``devices.json``.
    clock
        Returns the present time in UTC.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._clock = clock

    def devices(self) -> dict[str, Device]:
        """Return all devices by name.

        Raises
        ------
        StorageError
            If the file is damaged.
        """
        if not self.path.exists():
            return {}
        try:
            content = json.loads(read_bytes(self.path, limit=LARGEST_FILE))
            if content["format"] != FORMAT:
                raise ValueError
            return {name: Device(name=name, **values) for name, values in content["devices"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StorageError(f"{self.path} is damaged", hint="put the latest backup of it back") from error

    def keys(self) -> dict[str, str]:
        """Return the name of each enrolled device by its public key."""
        return {item.public_key: item.name for item in self.devices().values() if item.state == "enrolled"}

    def invite(self, name: str, *, authority: bytes, hours: float) -> Invitation:
        """Add a device (or renew an invitation that was not used) and return its code's content.

        Raises
        ------
        InputError
            If the name is taken or not usable.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a device", hint="use letters, digits, '.', '_' and '-'")
        if not 0.0 < hours <= 24 * 90:
            raise InputError(f"a code is good for more than 0 and at most {24 * 90} hours, not {hours:g}")
        invitation, now = Invitation(secrets.token_bytes(16), authority), self._clock()
        with self._changing() as devices:
            known = devices.get(name)
            if known is not None and known.state != "invited":
                raise InputError(f"there is a device {name!r} already ({known.state})", hint="choose another name")
            devices[name] = Device(
                name,
                "invited",
                code=invitation.digest(),
                invited=_iso(now),
                expires=_iso(now + timedelta(hours=hours)),
            )
        return invitation

    def enrol(self, secret: bytes, *, public_key: str, proof: bytes) -> Device:
        """Take a device in: the code must be good, and the key its own.

        Raises
        ------
        FederationError
            If the code is unknown, used or expired (which of them is not said), or the key is bad.
        """
        _verify(public_key, enrol_message(secret, public_key), proof)
        digest = Invitation(secret, bytes(20)).digest()
        now = self._clock()
        with self._changing() as devices:
            found = next((item for item in devices.values() if hmac.compare_digest(item.code, digest)), None)
            if found is not None and found.state == "enrolled" and found.public_key == public_key:
                return found
            good = found is not None and found.state == "invited" and now < datetime.fromisoformat(found.expires)
            if found is None or not good:
                raise FederationError("this code is not good (any more)", hint="ask the operator for a new one")
            if any(item.public_key == public_key for item in devices.values()):
                raise FederationError("this key is known already", hint="run easel leave, then join again")
            device = dataclasses.replace(found, state="enrolled", public_key=public_key, enrolled=_iso(now))
            devices[found.name] = device
        return device

    def leave(self, public_key: str, *, when: str, proof: bytes) -> Device:
        """Let a device revoke itself.

        Raises
        ------
        FederationError
            If it is not signed with its key, or not just now.
        """
        _verify(public_key, leave_message(public_key, when), proof)
        try:
            late = abs(self._clock() - datetime.fromisoformat(when)) > _CLOCKS_APART
        except (TypeError, ValueError):
            late = True
        if late:
            raise FederationError("this farewell is not from now", hint="check the clock of the device")
        name = self.keys().get(public_key)
        if name is None:
            raise FederationError("no such device")
        return self.revoke(name)

    def revoke(self, name: str) -> Device:
        """Shut a device out for good, or take an invitation back; again changes nothing.

        Raises
        ------
        MissingError
            If there is no such device.
        """
        with self._changing() as devices:
            if name not in devices:
                raise MissingError(f"there is no device {name!r}", hint="easel-server device list names them")
            if devices[name].state != "revoked":
                devices[name] = dataclasses.replace(
                    devices[name], state="revoked", code="", revoked=_iso(self._clock())
                )
            return devices[name]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Device]]:
        """Hold the lock, hand out the devices, and write them if the block ends well and changed them."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot lock {lock}: {error.strerror}", hint="check the folder") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            devices = self.devices()
            before = dict(devices)
            yield devices
            if devices != before:
                self._write(devices)
        finally:
            os.close(handle)

    def _write(self, devices: Mapping[str, Device]) -> None:
        content = {
            "format": FORMAT,
            "devices": {
                name: {key: value for key, value in dataclasses.asdict(item).items() if key != "name"}
                for name, item in sorted(devices.items())
            },
        }
        write_atomic(self.path, (json.dumps(content, indent=1) + "\n").encode(), mode=0o600)


def _verify(public_key: str, message: bytes, proof: bytes) -> None:
    """Check a signature (ECDSA, SHA-256) by a key as Flower's node authentication takes them."""
    try:
        key = serialization.load_ssh_public_key(public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            raise ValueError
        plain = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        if plain.decode() != public_key:
            raise ValueError
        key.verify(proof, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, UnicodeError, ValueError) as error:
        raise FederationError("the key of this device is not usable", hint="join again") from error


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")
