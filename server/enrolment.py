"""What the gate answers to devices that join or leave: bytes in, a status and JSON out; no network here."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from server.deployment import Fleet
from server.devices import Registry
from shared_model.errors import EaselError, FederationError, InputError
from shared_model.files import read_bytes

__all__ = ["LARGEST_REQUEST", "Enrolment"]

LARGEST_REQUEST = 4096


class Enrolment:
    """Takes devices in with their one-time codes, and lets them go.

    Guarantees
    ----------
    A refusal says nothing about which codes or devices there are. An answer that cannot be
    understood changes nothing.

    Parameters
    ----------
    fleet, registry
        The fleet's folder and its devices.
    changed
        Called after the registry changed, so that the SuperLink follows; its failure is no failure
        of the enrolment.
    """

    def __init__(self, fleet: Fleet, registry: Registry, *, changed: Callable[[], None]) -> None:
        self._fleet = fleet
        self._registry = registry
        self._changed = changed

    def authority(self) -> bytes:
        """Return the authority's certificate, PEM. Devices check it against the print in their code."""
        return read_bytes(self._fleet.ca)

    def enrol(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer ``{"secret", "public_key", "proof"}`` with the name of the device and the signing key."""

        def act(values: dict[str, str]) -> dict[str, Any]:
            secret, proof = _bytes(values, "secret"), _bytes(values, "proof")
            device = self._registry.enrol(secret, public_key=values["public_key"], proof=proof)
            return {"name": device.name, "signing_key": read_bytes(self._fleet.signing_public).decode()}

        return self._answer(body, act)

    def leave(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer ``{"public_key", "time", "proof"}`` by revoking that device."""

        def act(values: dict[str, str]) -> dict[str, Any]:
            proof = _bytes(values, "proof")
            return {"left": self._registry.leave(values["public_key"], when=values["time"], proof=proof).name}

        return self._answer(body, act)

    def _answer(self, body: bytes, act: Callable[[dict[str, str]], dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        try:
            values = json.loads(body)
            if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
                raise ValueError
            answer = act(values)
        except (FederationError, InputError) as error:
            return 403, {"error": error.message, "hint": error.hint}
        except (KeyError, ValueError, RecursionError):
            return 400, {"error": "this request cannot be understood", "hint": "is the device's easel up to date?"}
        try:
            self._changed()
        except EaselError:
            return 200, answer  # the SuperLink is told again later
        return 200, answer


def _bytes(values: dict[str, str], key: str) -> bytes:
    try:
        return base64.b64decode(values[key], validate=True)
    except binascii.Error as error:
        raise ValueError from error
