"""Speaks to a fleet's gate when a device joins or leaves; knows keys and codes, and nothing private.

No trust on first use: the code that the owner was given names the fleet's authority by its print. The
authority's certificate is fetched over a connection that cannot be checked yet, compared with that
print, and only a second connection, checked against it, ever carries the code's secret.
"""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from client.node_key import NodeKey
from shared_model.errors import FederationError, InputError
from shared_model.invitation import Invitation, certificate_print, enrol_message, leave_message

__all__ = ["Enrolled", "enrol", "free_port", "parse_server", "say_farewell"]

_LARGEST_ANSWER = 1 << 16
_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Enrolled:
    """What a fleet answers to a device that joins.

    Attributes
    ----------
    name
        The operator's word for the device.
    ca
        Certificate of the fleet's authority, PEM.
    signing_key
        Public key that signs the fleet's releases, PEM.
    """

    name: str
    ca: str
    signing_key: str


def parse_server(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; an IPv6 address stands in brackets.

    Raises
    ------
    InputError
        If it is something else.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isdigit() and 1 <= int(port) <= 65535):
        raise InputError(f"{text!r} is not HOST:PORT", hint="for example fleet.example.org:39300")
    return host, int(port)


def enrol(server: str, *, invitation: Invitation, key: NodeKey) -> Enrolled:
    """Enrol this device's public key with a one-time code.

    Raises
    ------
    FederationError
        If the server cannot be reached, is not the one that the code names, or does not take the code.
    """
    host, port = parse_server(server)
    ca = _authority(host, port, invitation)
    proof = key.sign(enrol_message(invitation.secret, key.public))
    answer = _ask(
        host,
        port,
        "/v1/enrol",
        {"secret": _text(invitation.secret), "public_key": key.public, "proof": _text(proof)},
        ca=ca,
    )
    name, signing_key = answer.get("name"), answer.get("signing_key")
    if not (isinstance(name, str) and isinstance(signing_key, str)):
        raise FederationError("the server's answer cannot be understood", hint="is easel up to date?")
    return Enrolled(name, ca, signing_key)


def say_farewell(server: str, *, ca: str, key: NodeKey, now: datetime) -> None:
    """Ask the server to forget this device's key.

    Raises
    ------
    FederationError
        If it cannot be reached or does not know the device.
    """
    host, port = parse_server(server)
    when = now.isoformat(timespec="seconds")
    proof = key.sign(leave_message(key.public, when))
    _ask(host, port, "/v1/leave", {"public_key": key.public, "time": when, "proof": _text(proof)}, ca=ca)


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def _authority(host: str, port: int, invitation: Invitation) -> str:
    """Fetch the authority's certificate and believe it only if the code names it."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE

    def act(line: http.client.HTTPSConnection) -> tuple[int, bytes]:
        line.request("GET", "/v1/ca")
        return _read(line)

    status, content = _connected(host, port, unchecked, act)
    try:
        text = content.decode("ascii") if status == 200 else ""
        der = ssl.PEM_cert_to_DER_cert(text)
    except (UnicodeDecodeError, ValueError) as error:
        raise FederationError(f"there is no easel fleet at {host}:{port}", hint="check the address") from error
    if not hmac.compare_digest(certificate_print(der), invitation.authority):
        raise FederationError(
            f"{host}:{port} is not the server that this code is from: nothing was sent",
            hint="somebody may be in between, or the code belongs to another fleet: ask the operator",
        )
    return ssl.DER_cert_to_PEM_cert(der)


def _ask(host: str, port: int, path: str, question: dict[str, str], *, ca: str) -> dict[str, Any]:
    checked = ssl.create_default_context(cadata=ca)
    checked.minimum_version = ssl.TLSVersion.TLSv1_2

    def act(line: http.client.HTTPSConnection) -> tuple[int, bytes]:
        line.request("POST", path, body=json.dumps(question), headers={"Content-Type": "application/json"})
        return _read(line)

    status, content = _connected(host, port, checked, act)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise FederationError("the server's answer cannot be understood", hint="is easel up to date?")
    if status != 200:
        raise FederationError(
            f"the server refuses: {str(answer.get('error', status))[:200]}", hint=str(answer.get("hint", ""))[:200]
        )
    return answer


def _connected(
    host: str, port: int, trust: ssl.SSLContext, act: Callable[[http.client.HTTPSConnection], tuple[int, bytes]]
) -> tuple[int, bytes]:
    line = http.client.HTTPSConnection(host, port, timeout=_PATIENCE_S, context=trust)
    try:
        return act(line)
    except ssl.SSLCertVerificationError as error:
        raise FederationError(
            f"{host}:{port} has no certificate of this fleet for that name: {error.verify_message}",
            hint="use the name or address that the operator gave; check this device's clock",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise FederationError(
            f"{host}:{port} cannot be reached: {error}", hint="check the address and the connection, then try again"
        ) from error
    finally:
        line.close()


def _read(line: http.client.HTTPSConnection) -> tuple[int, bytes]:
    response = line.getresponse()
    return response.status, response.read(_LARGEST_ANSWER)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
