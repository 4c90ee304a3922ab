"""The one-time code that lets a device join a fleet: a secret, and which authority to believe.

Server and device both know this form; neither needs a network for it. A code reads
``XXXXXXXX-XXXXXXXX-...`` (eight groups of eight letters and digits).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from shared_model.errors import InputError

__all__ = ["Invitation", "certificate_print", "enrol_message", "leave_message"]

_SECRET = 16
_PRINT = 20
_CHECK = 4
_GROUP = 8


@dataclass(frozen=True)
class Invitation:
    """What a code says.

    Guarantees
    ----------
    A mistyped code is noticed before anything is sent (32 bits of checksum). The secret has 128
    bits; the print has 160 bits of SHA-256, so nobody can make another authority with it.

    Attributes
    ----------
    secret
        16 random bytes, good once.
    authority
        First 20 bytes of the SHA-256 of the authority's certificate (DER).
    """

    secret: bytes
    authority: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != _SECRET or len(self.authority) != _PRINT:
            raise InputError(f"an invitation has {_SECRET} bytes of secret and {_PRINT} of the authority's print")

    def code(self) -> str:
        """Return the code to hand to the owner of the device."""
        body = self.secret + self.authority
        text = base64.b32encode(body + _checksum(body)).decode()
        return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))

    def digest(self) -> str:
        """Return what the server keeps instead of the secret, in hex."""
        return hashlib.sha256(b"easel-invitation-1" + self.secret).hexdigest()

    @classmethod
    def parse(cls, code: str) -> Invitation:
        """Read a code; spaces, dashes and case do not matter.

        Raises
        ------
        InputError
            If it is incomplete or mistyped.
        """
        text = "".join(code.split()).replace("-", "").upper()
        try:
            body = base64.b32decode(text.encode())
        except (binascii.Error, UnicodeEncodeError):
            body = b""
        content, check = body[:-_CHECK], body[-_CHECK:]
        if len(body) != _SECRET + _PRINT + _CHECK or _checksum(content) != check:
            raise InputError(
                "this enrolment code is incomplete or mistyped", hint="copy all eight groups of eight characters"
            )
        return cls(content[:_SECRET], content[_SECRET:])


def certificate_print(der: bytes) -> bytes:
    """Return the print of a certificate, as codes carry it."""
    return hashlib.sha256(der).digest()[:_PRINT]


def enrol_message(secret: bytes, public_key: str) -> bytes:
    """Return what a device signs to show that the key it enrols is its own."""
    return b"easel-enrol-1\n" + hashlib.sha256(secret).digest() + public_key.encode()


def leave_message(public_key: str, when: str) -> bytes:
    """Return what a device signs to leave; ``when`` is an ISO time that the server compares with its clock."""
    return f"easel-leave-1\n{when}\n{public_key}".encode()


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"easel-code-1" + body).digest()[:_CHECK]
