"""The key by which a fleet knows this device: made here, never sent, removed when the device leaves."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared_model.errors import StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["NodeKey"]


class NodeKey:
    """An ECDSA key on P-384, in the form that Flower's node authentication reads (OpenSSH).

    Parameters
    ----------
    path
        File of the private key, 0600.
    private
        The key.
    """

    def __init__(self, path: Path, private: ec.EllipticCurvePrivateKey) -> None:
        self.path = path
        self._private = private
        self.public = (
            private.public_key()
            .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            .decode()
        )

    @classmethod
    def open(cls, path: Path) -> NodeKey:
        """Read the key at ``path``, or make one there; it is on the disk before anybody hears of it.

        Raises
        ------
        StorageError
            If the file is damaged or cannot be written.
        """
        if not path.exists():
            made = ec.generate_private_key(ec.SECP384R1())
            text = made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
            write_atomic(path, text, mode=0o600)
        try:
            private = serialization.load_ssh_private_key(read_bytes(path, limit=1 << 16), None)
        except (TypeError, ValueError) as error:
            raise StorageError(f"{path} is damaged", hint="easel leave, then join with a new code") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise StorageError(f"{path} is not a key that Flower takes", hint="easel leave, then join with a new code")
        return cls(path, private)

    def sign(self, message: bytes) -> bytes:
        """Sign (ECDSA, SHA-256)."""
        return self._private.sign(message, ec.ECDSA(hashes.SHA256()))
