"""The folder that is a fleet: keys, certificates, configuration, service files; made once, never overwritten."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.authority import (
    Pair,
    certificate_host,
    certificate_names,
    expiry,
    issue,
    make_authority,
    make_signing_key,
    public_pem,
    rotation,
)
from shared_model.config import load_toml
from shared_model.errors import ConfigError, InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.invitation import certificate_print

__all__ = ["Fleet", "ServerConfig", "create", "renew_certificate", "rotate_signing_key"]

RELEASE_PORT = 39320  # of easel-server release serve, where devices look for it
_FLOWER = "1.41.0"
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class ServerConfig:
    """``server.toml``: where the server listens.

    Parameters
    ----------
    listen, port
        Where devices come: the gate (:mod:`server.gate`).
    control_port
        Where Flower's SuperLink listens, on the loopback interface.
    status_port
        Where the running fleet shows its status, on the loopback interface; 0: nowhere.
    """

    listen: str = "0.0.0.0"
    port: int = 39300
    control_port: int = 39310
    status_port: int = 39330

    def __post_init__(self) -> None:
        for name in ("port", "control_port"):
            if not 1 <= getattr(self, name) <= 65535:
                raise ConfigError(f"{name} must be between 1 and 65535, not {getattr(self, name)}")
        if not 0 <= self.status_port <= 65535:
            raise ConfigError(f"status_port must be between 0 and 65535, not {self.status_port}")
        if self.status_port in (self.port, self.control_port):
            raise ConfigError("status_port must differ from the other ports")
        if self.port == self.control_port:
            raise ConfigError("port and control_port must differ", hint="Flower's control interface is not for devices")


@dataclass(frozen=True)
class Fleet:
    """Where the things of a fleet lie in its folder."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Fleet:
        """Return the fleet in ``folder``.

        Raises
        ------
        MissingError
            If there is none.
        """
        fleet = cls(folder.expanduser().resolve())
        for path in (fleet.ca, fleet.certificate, fleet.key, fleet.federation, fleet.server):
            if not path.is_file():
                raise MissingError(
                    f"{fleet.folder} is not a fleet's folder: it has no {path.name}",
                    hint=f"easel-server init {folder} makes one",
                )
        return fleet

    @property
    def ca(self) -> Path:
        """Certificate of the fleet's own authority."""
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """Its private key; needed for new server certificates only, and best kept elsewhere."""
        return self.folder / "ca.key"

    @property
    def certificate(self) -> Path:
        """Certificate of the server."""
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        """Private key of the server."""
        return self.folder / "server.key"

    @property
    def signing_key(self) -> Path:
        """Ed25519 key that signs releases."""
        return self.folder / "signing.key"

    @property
    def signing_public(self) -> Path:
        """Its public half, which devices get when they enrol."""
        return self.folder / "signing.pub"

    @property
    def rotations(self) -> Path:
        """Statements by which one signing key named the next, oldest first."""
        return self.folder / "signing-rotations.json"

    @property
    def devices(self) -> Path:
        """Who belongs to the fleet."""
        return self.folder / "devices.json"

    @property
    def federation(self) -> Path:
        """What the rounds are."""
        return self.folder / "federation.toml"

    @property
    def server(self) -> Path:
        """Where the server listens."""
        return self.folder / "server.toml"

    @property
    def run(self) -> Path:
        """State and results of the rounds."""
        return self.folder / "run"

    def config(self) -> ServerConfig:
        """Read ``server.toml``."""
        return load_toml(self.server, ServerConfig)

    def authority_print(self) -> bytes:
        """Return the print of the authority's certificate, which codes carry."""
        certificate = x509.load_pem_x509_certificate(read_bytes(self.ca))
        return certificate_print(certificate.public_bytes(serialization.Encoding.DER))

    def facts(self, *, now: datetime) -> dict[str, Any]:
        """Return the first name, all names and the end of the server certificate, JSON-ready."""
        certificate = read_bytes(self.certificate)
        return {
            "host": certificate_host(certificate),
            "hosts": certificate_names(certificate),
            "certificate_ends": expiry(certificate).isoformat(timespec="seconds"),
            "certificate_days_left": (expiry(certificate) - now).days,
        }


def create(
    folder: Path, *, hosts: Sequence[str], now: datetime, config: ServerConfig | None = None, name: str = ""
) -> Fleet:
    """Make a fleet's folder: only its owner can read it (0700), and every file in it (0600).

    Guarantees
    ----------
    Nothing that exists is overwritten. The server's configuration is written last, so that a killed
    ``init`` leaves no folder that looks finished; starting again goes on with the keys that are there.

    Raises
    ------
    InputError
        If there is a fleet already, or the folder holds other things.
    """
    fleet, config = Fleet(folder.expanduser().resolve()), config or ServerConfig()
    if fleet.server.exists():
        raise InputError(
            f"there is a fleet in {fleet.folder} already: nothing was changed",
            hint="--renew-certificate and --rotate-signing-key change its keys; another fleet needs another folder",
        )
    ours = {"ca.pem", "ca.key", "server.pem", "server.key", "signing.key", "signing.pub", "federation.toml", "deploy"}
    try:
        fleet.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        foreign = sorted(
            path.name for path in fleet.folder.iterdir() if path.name not in ours and path.suffix != ".tmp"
        )
        if foreign:
            raise InputError(f"{fleet.folder} is not empty: {foreign[0]}", hint="choose a new folder")
        fleet.folder.chmod(0o700)
    except OSError as error:
        raise StorageError(f"cannot use {fleet.folder}: {error.strerror}", hint="choose another folder") from error
    authority = _authority(fleet, name or (hosts[0] if hosts else fleet.folder.name), now=now)
    _write_certificate(fleet, issue(authority, hosts, now=now))
    if not fleet.signing_key.exists():
        _write(fleet.signing_key, make_signing_key())
    _write(fleet.signing_public, public_pem(read_bytes(fleet.signing_key)))
    if not fleet.federation.exists():
        _write(fleet.federation, _template("federation.toml").encode())
    _services(fleet, config)
    listening = dataclasses.asdict(config)
    _write(fleet.server, _template("server.toml").format_map(listening).encode())
    return fleet


def renew_certificate(fleet: Fleet, *, hosts: Sequence[str], now: datetime) -> datetime:
    """Issue a new server certificate, for the same hosts unless others are given; returns its end.

    Devices need nothing new: they trust the authority.

    Raises
    ------
    MissingError
        If the authority's key is kept elsewhere.
    """
    if not fleet.ca_key.exists():
        raise MissingError(f"{fleet.ca_key} is not here", hint="put the authority's key back for this command")
    old = read_bytes(fleet.certificate)
    names = list(hosts) or [certificate_host(old), *certificate_names(old)]
    _write_certificate(fleet, issue(Pair(read_bytes(fleet.ca), read_bytes(fleet.ca_key)), names, now=now))
    return expiry(read_bytes(fleet.certificate))


def rotate_signing_key(fleet: Fleet, *, now: datetime) -> bytes:
    """Put a new signing key in place of the old one, which signs this; returns the new public key, PEM.

    The old private key is destroyed. Devices that trust it follow the chain in
    ``signing-rotations.json``; that file is written first, so a killed rotation leaves one statement
    too many (the key it names never signs anything) and the old key in place.
    """
    old, new = read_bytes(fleet.signing_key), make_signing_key()
    chain = json.loads(read_bytes(fleet.rotations)) if fleet.rotations.exists() else []
    statement = rotation(old, new, now=now)
    kept = [earlier for earlier in chain if earlier["key"] != statement["key"]]
    _write(fleet.rotations, (json.dumps([*kept, statement], indent=1) + "\n").encode())
    _write(fleet.signing_key, new)
    _write(fleet.signing_public, public_pem(new))
    return public_pem(new)


def _authority(fleet: Fleet, name: str, *, now: datetime) -> Pair:
    if fleet.ca.exists() and fleet.ca_key.exists():
        return Pair(read_bytes(fleet.ca), read_bytes(fleet.ca_key))
    made = make_authority(name, now=now)
    _write(fleet.ca_key, made.key)
    _write(fleet.ca, made.certificate)
    return made


def _write_certificate(fleet: Fleet, pair: Pair) -> None:
    """Write key and certificate; the certificate's file names its authority too, for clients that want the chain."""
    _write(fleet.key, pair.key)
    _write(fleet.certificate, pair.certificate + read_bytes(fleet.ca))


def _services(fleet: Fleet, config: ServerConfig) -> None:
    program = Path(sys.executable).with_name("easel-server")
    values: Mapping[str, Any] = {
        "folder": fleet.folder,
        "quoted": _unit_quoted(str(fleet.folder)),
        "program": _unit_quoted(str(program)),
        "port": config.port,
        "release_port": RELEASE_PORT,
        "flower": _FLOWER,
    }
    for name in ("easel-server.service", "easel-releases.service", "compose.yaml"):
        _write(fleet.folder / "deploy" / name, _template(name).format_map(values).encode())
    os.chmod(fleet.folder / "deploy", 0o700)


def _unit_quoted(text: str) -> str:
    """Quote a path for a systemd unit."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _write(path: Path, content: bytes) -> None:
    write_atomic(path, content, mode=0o600)
