"""A file that only its passphrase opens: scrypt (RFC 7914) makes the key, AES-256-GCM seals.

The header is part of what is sealed: magic, version, scrypt's cost, salt, nonce. Whoever opens a file reads the
cost from it, so only costs of 32 to 128 MiB are taken: a foreign file cannot ask for more memory than that.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared_model.errors import CompatibilityError, InputError, MissingError, StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["MAGIC", "check_passphrase", "is_sealed", "open_sealed", "seal"]

MAGIC = b"EASELSEAL"
_VERSION = 1
_HEADER = struct.Struct(">9sBB16s12s")  # magic, version, log2 of scrypt's N, salt, nonce
_COST, _COSTS = 17, (15, 16, 17)  # N = 2**17, r = 8, p = 1: 128 MiB, about half a second
_LONGEST = 4096  # characters of a passphrase
_SHORTEST = 8  # when sealing


def check_passphrase(passphrase: str, *, new: bool) -> None:
    """Refuse a passphrase that is empty or too long, and a new one of fewer than 8 characters.

    Raises
    ------
    InputError
        If it is.
    """
    if new and len(passphrase) < _SHORTEST:
        raise InputError(f"this passphrase has fewer than {_SHORTEST} characters", hint="several words are best")
    if not passphrase or len(passphrase) > _LONGEST:
        raise InputError(f"a passphrase has 1 to {_LONGEST} characters")


def is_sealed(data: bytes) -> bool:
    """Tell whether bytes begin like a sealed file."""
    return data.startswith(MAGIC)


def seal(data: bytes, passphrase: str, *, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Encrypt ``data``; the result is 55 bytes longer.

    Raises
    ------
    InputError
        If the passphrase is too short or too long.
    MissingError
        If the package cryptography is not installed.
    """
    check_passphrase(passphrase, new=True)
    salt, nonce = random(16), random(12)
    header = _HEADER.pack(MAGIC, _VERSION, _COST, salt, nonce)
    sealed, _ = _cryptography()
    return header + sealed(_key(passphrase, salt, _COST)).encrypt(nonce, data, header)


def open_sealed(data: bytes, passphrase: str) -> bytes:
    """Decrypt what :func:`seal` made.

    Raises
    ------
    InputError
        If the passphrase is wrong or the file was changed: the two cannot be told apart.
    CompatibilityError
        If it was sealed by a later version of easel.
    StorageError
        If it is cut off, or asks for a cost that easel never writes.
    MissingError
        If the package cryptography is not installed.
    """
    check_passphrase(passphrase, new=False)
    if len(data) < _HEADER.size + 16 or not is_sealed(data):
        raise StorageError("this sealed file is cut off", hint="copy it again")
    _, version, cost, salt, nonce = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise CompatibilityError(f"this file is sealed in format {version}", hint="update easel")
    if cost not in _COSTS:
        raise StorageError("this sealed file is damaged: its cost is none that easel writes", hint="copy it again")
    sealed, wrong = _cryptography()
    try:
        return sealed(_key(passphrase, salt, cost)).decrypt(nonce, data[_HEADER.size :], data[: _HEADER.size])
    except wrong as error:
        raise InputError(
            "the passphrase is wrong, or the file was changed", hint="check capitals and spaces, or copy the file again"
        ) from error


def _key(passphrase: str, salt: bytes, cost: int) -> bytes:
    import unicodedata

    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    normal = unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogatepass")
    return Scrypt(salt=salt, length=32, n=1 << cost, r=8, p=1).derive(normal)


def _cryptography() -> tuple[type[AESGCM], type[Exception]]:
    """Return the cipher and the error that a wrong key raises."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise MissingError(
            "passphrases need the package cryptography", hint="pip install 'easel[passphrase]', or leave it away"
        ) from error
    return AESGCM, InvalidTag
