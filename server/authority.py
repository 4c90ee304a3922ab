"""The fleet's own certificate authority, its server certificate, and the key that signs releases.

Everything is made here and stays here: no outside authority, nothing fetched. The clock is passed in.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared_model.errors import InputError, StorageError

__all__ = [
    "Pair",
    "certificate_host",
    "certificate_names",
    "expiry",
    "issue",
    "make_authority",
    "make_signing_key",
    "public_pem",
    "public_raw",
    "rotation",
    "verify_rotation",
]

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
_MESSAGE = b"easel key\0"
_EARLY = timedelta(hours=1)  # for clocks of devices that are behind
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def make_authority(name: str, *, now: datetime) -> Pair:
    """Make a self-signed authority (ECDSA P-256, ten years) that can sign server certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"easel fleet {name}"[:64])])
    builder = (
        _builder(subject, subject, key.public_key(), now=now, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _private(key))


def issue(authority: Pair, hosts: Sequence[str], *, now: datetime) -> Pair:
    """Issue a server certificate for these host names and addresses, and for this machine itself.

    Raises
    ------
    InputError
        If a host is neither a name nor an address.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise StorageError("the authority's key is not an elliptic-curve key", hint="was ca.key replaced?")
    names = list(dict.fromkeys([*hosts, *LOOPBACK]))
    general = [_general(name) for name in names]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        _builder(subject, issuer.subject, key.public_key(), now=now, days=SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return Pair(_pem(builder.sign(issuer_key, hashes.SHA256())), _private(key))


def certificate_names(certificate: bytes) -> list[str]:
    """Return the hosts that a server certificate (PEM) is good for."""
    found = x509.load_pem_x509_certificate(certificate).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def certificate_host(certificate: bytes) -> str:
    """Return the first host that a server certificate (PEM) was issued for."""
    name = x509.load_pem_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name[0].value)


def expiry(certificate: bytes) -> datetime:
    """Return when a certificate (PEM) ends, in UTC."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def make_signing_key() -> bytes:
    """Make an Ed25519 key that signs releases, PEM (PKCS #8)."""
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(private: bytes) -> bytes:
    """Return the public half of an Ed25519 key, PEM."""
    return (
        _signing(private)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def rotation(old: bytes, new: bytes, *, now: datetime) -> dict[str, str]:
    """Return a statement, signed by the old key, that the new key (both private, PEM) takes its place.

    The form is that of a release's signed documents: ``body`` is canonical JSON (``old`` names the
    old key by 16 hex digits, ``key`` is the new public one), the signature covers ``easel key``, a
    zero byte and the body. Whoever trusts the old key can check it and trust the new one.
    """
    signer = _signing(old)
    name = _key_id(signer.public_key().public_bytes_raw())
    body = json.dumps(
        {
            "created": now.isoformat(timespec="seconds"),
            "format": "easel-key-1",
            "key": _signing(new).public_key().public_bytes_raw().hex(),
            "old": name,
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return {"body": body, "key": name, "signature": signer.sign(_MESSAGE + body.encode()).hex()}


def verify_rotation(statement: Mapping[str, Any], trusted: bytes) -> bytes:
    """Check a rotation against the public key ``(32 bytes)`` that is trusted so far and return the new one.

    Raises
    ------
    InputError
        If it is not signed by the trusted key.
    """
    try:
        body = str(statement["body"])
        values = json.loads(body)
        if values["format"] != "easel-key-1" or values["old"] != _key_id(trusted):
            raise ValueError
        key = ed25519.Ed25519PublicKey.from_public_bytes(trusted)
        key.verify(bytes.fromhex(statement["signature"]), _MESSAGE + body.encode())
        return bytes.fromhex(values["key"])
    except (InvalidSignature, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "this rotation of the signing key is not signed by the key that is trusted", hint="ask the operator"
        ) from error


def public_raw(private: bytes) -> bytes:
    """Return the public half ``(32 bytes)`` of an Ed25519 key in PEM."""
    return _signing(private).public_key().public_bytes_raw()


def _key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _signing(private: bytes) -> ed25519.Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(private, None)
    except (TypeError, ValueError) as error:
        raise StorageError("the signing key cannot be read", hint="put signing.key back from a backup") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise StorageError("the signing key is not an Ed25519 key", hint="put signing.key back from a backup")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if len(name) > 253 or not all(0 < len(label) <= 63 and set(label.lower()) <= allowed for label in labels):
        raise InputError(f"{name!r} is neither a host name nor an address", hint="for example --host fleet.example.org")
    return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
