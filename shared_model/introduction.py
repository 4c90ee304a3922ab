"""How a device shows the server of a fleet who it is: a signature with the key that it joined with.

It signs the time and the method that it calls, so what it sends is worth nothing for another method or five minutes
later; the connection itself is TLS. No secret travels. Both sides of it are here, and nothing that sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from shared_model.errors import FederationError, InputError, MissingError
from shared_model.files import read_bytes

__all__ = ["KEY", "PROOF", "TIME", "Introducer", "recognize"]

#: Names of the call's metadata.
KEY, TIME, PROOF = "easel-device-key", "easel-time", "easel-proof-bin"
_CLOCKS_APART = timedelta(minutes=5)


def _message(public_key: str, when: str, method: str) -> bytes:
    return f"easel-call-1\n{method}\n{when}\n{public_key}".encode()


@dataclass(frozen=True)
class Introducer:
    """Signs calls for one device.

    Attributes
    ----------
    private
        The device's private key (ECDSA, P-256 or P-384), PEM or OpenSSH, without a passphrase.
    """

    private: bytes

    @staticmethod
    def load(path: Path) -> Introducer:
        """Read the key from a file; raises ``StorageError`` if it cannot be read."""
        return Introducer(read_bytes(path, limit=1 << 16))

    def introduce(self, method: str, *, now: datetime) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata for a call of ``method``, such as ``/easel.fleet.v1.Releases/GetCurrent``.

        Raises
        ------
        InputError
            If the key is no such key.
        """
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            raise _missing() from error
        load = serialization.load_pem_private_key
        if b"OPENSSH" in self.private[:64]:
            load = serialization.load_ssh_private_key
        try:
            key = load(self.private, None)
        except (TypeError, ValueError, UnsupportedAlgorithm) as error:
            raise InputError("the device's key cannot be read", hint="join the fleet again") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InputError("the device's key is not an elliptic-curve key", hint="join the fleet again")
        form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        public = key.public_key().public_bytes(*form).decode()
        when = now.isoformat(timespec="seconds")
        proof = key.sign(_message(public, when, method), ec.ECDSA(hashes.SHA256()))
        return ((KEY, public), (TIME, when), (PROOF, proof))


def recognize(metadata: Mapping[str, str | bytes], method: str, *, now: datetime) -> str:
    """Return the public key (OpenSSH, one line) of whoever signed this call; whether it is a member is not asked here.

    Raises
    ------
    FederationError
        If the call is not signed, not with this key, for another method, or not from now.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public, when, proof = metadata.get(KEY), metadata.get(TIME), metadata.get(PROOF)
    if not (isinstance(public, str) and isinstance(when, str) and isinstance(proof, bytes) and len(public) < 1024):
        raise FederationError("the call is not signed by a device", hint="join the fleet: easel join")
    try:
        key = serialization.load_ssh_public_key(public.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError
        key.verify(proof, _message(public, when, method), ec.ECDSA(hashes.SHA256()))
        apart = abs(now - datetime.fromisoformat(when))
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError) as error:
        raise FederationError("the call is not signed with the device's key") from error
    if apart > _CLOCKS_APART:
        raise FederationError("the call is not from now", hint="check the clock of the device")
    return public


def _missing() -> MissingError:
    return MissingError("the package cryptography is not installed", hint="pip install 'easel[client]'")
