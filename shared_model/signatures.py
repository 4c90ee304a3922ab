"""Ed25519 signatures on short documents: who may say what is a release.

A signature covers the document's bytes and its kind, so a document of one kind never passes for another. The only
importer of ``cryptography`` for releases, and only when something is signed or verified.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared_model.errors import InputError, MissingError, ReleaseError, StorageError
from shared_model.files import read_bytes, write_atomic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KINDS", "Signed", "Signer", "key_id", "read_public", "verify"]

KINDS = ("key", "manifest", "order")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Signed:
    """A document with its signature, not verified yet.

    Attributes
    ----------
    body
        The document.
    key
        Which key is said to have signed it, see :func:`key_id`.
    signature
        64 bytes.
    """

    body: bytes
    key: str
    signature: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the document, in hex."""
        return hashlib.sha256(self.body).hexdigest()

    def to_dict(self) -> dict[str, str]:
        """Return JSON-ready values; the body stays readable."""
        return {"body": self.body.decode("ascii"), "key": self.key, "signature": self.signature.hex()}

    @staticmethod
    def from_dict(values: object) -> Signed:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        ReleaseError
            If it is something else.
        """
        try:
            body, key, signature = (values[name] for name in ("body", "key", "signature"))  # type: ignore[index]
            return Signed(body.encode("ascii"), str(key), bytes.fromhex(signature))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ReleaseError("this is no signed document", reason="malformed") from error

    def to_bytes(self) -> bytes:
        """Return the signature alone as a small file beside the document."""
        return json.dumps({"key": self.key, "signature": self.signature.hex()}).encode() + b"\n"

    @staticmethod
    def of_files(body: Path, signature: Path) -> Signed:
        """Read a document and the signature beside it; raises like :meth:`from_dict` and ``read_bytes``."""
        try:
            values = dict(json.loads(read_bytes(signature, limit=4096)))
            text = read_bytes(body, limit=1 << 20).decode("ascii")
        except (TypeError, ValueError) as error:
            raise ReleaseError(f"{signature} or {body.name} is damaged", reason="malformed") from error
        return Signed.from_dict(values | {"body": text})


def key_id(public: bytes) -> str:
    """Return 16 hex digits that name a public key ``(32 bytes)``."""
    return hashlib.sha256(public).hexdigest()[:16]


def _message(kind: str, body: bytes) -> bytes:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of document {kind!r}")
    return f"easel {kind}".encode() + b"\0" + body


def verify(signed: Signed, *, kind: str, public: bytes) -> bytes:
    """Return the body of a document that the holder of ``public``'s private key signed as ``kind``.

    Raises
    ------
    ReleaseError
        If another key is said to have signed it (reason ``unknown-key``), or the signature is wrong
        (``bad-signature``).
    """
    if signed.key != key_id(public):
        raise ReleaseError(
            f"the {kind} is signed by key {signed.key[:16] or '(none)'}, only {key_id(public)} is trusted",
            hint="if the fleet has really changed its key, join it again",
            reason="unknown-key",
        )
    if not _valid(signed, kind, public):
        raise ReleaseError(
            f"the signature of the {kind} is wrong: it was changed on the way or forged",
            hint="nothing of it was used; try again, and tell the fleet's operator if it happens again",
            reason="bad-signature",
        )
    return signed.body


def _valid(signed: Signed, kind: str, public: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise _missing() from error
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed.signature, _message(kind, signed.body))
    except (InvalidSignature, ValueError):
        return False
    return True


class Signer:
    """A private key that signs documents."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()
        self.key = key_id(self.public)

    @staticmethod
    def new() -> Signer:
        """Make a key from the operating system's randomness."""
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise _missing() from error
        return Signer(Ed25519PrivateKey.generate())

    @staticmethod
    def load(path: Path | str) -> Signer:
        """Read an unencrypted PKCS #8 PEM file.

        Raises
        ------
        StorageError
            If it cannot be read.
        InputError
            If it is not an Ed25519 key.
        """
        data = read_bytes(path, limit=1 << 16)
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError as error:
            raise _missing() from error
        try:
            private = load_pem_private_key(data, None)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is not an unencrypted private key in PEM") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise InputError(f"{path} is not an Ed25519 key", hint="releases are signed with Ed25519")
        return Signer(private)

    def save(self, path: Path | str) -> Path:
        """Write the private key, PKCS #8 PEM, mode 0600."""
        from cryptography.hazmat.primitives import serialization as form

        pem = self._private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        return write_atomic(path, pem, mode=0o600)

    def sign(self, body: bytes, *, kind: str) -> Signed:
        """Sign a document."""
        return Signed(body, self.key, self._private.sign(_message(kind, body)))


def read_public(path: Path | str) -> bytes:
    """Read a public key: 64 hex digits, or PEM.

    Raises
    ------
    StorageError
        If the file cannot be read, or is no Ed25519 public key.
    """
    text = read_bytes(path, limit=1 << 16).strip()
    if len(text) == 64 and _HEX.fullmatch(text.decode("ascii", "replace")):
        return bytes.fromhex(text.decode())
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise _missing() from error
    try:
        public: object = load_pem_public_key(text)
    except ValueError as error:
        raise StorageError(f"{path} is no public key", hint="64 hex digits or PEM") from error
    if not isinstance(public, Ed25519PublicKey):
        raise StorageError(f"{path} is not an Ed25519 key", hint="releases are signed with Ed25519")
    return public.public_bytes_raw()


def _missing() -> MissingError:
    return MissingError(
        "the package cryptography is not installed", hint="pip install 'easel[client]' (or 'easel[server]')"
    )
