"""Serves the release in use to the devices of a fleet: gRPC over TLS (``protos/fleet.proto``).

``grpc.aio`` and not threads, so that slow devices hold nothing but a little memory. Weights are read from the disk
piece by piece. Nothing about a call is logged: no address, no key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos import fleet_pb2, fleet_pb2_grpc
from server.allowance import Allowance, Limits
from server.members import Members
from server.registry import Releases
from shared_model.errors import EaselError, FederationError, InputError, MissingError
from shared_model.files import read_bytes
from shared_model.introduction import recognize
from shared_model.release_rules import Offer
from shared_model.signatures import Signed

__all__ = ["PIECE", "SERVICE", "Place", "ReleaseService", "serve"]

PIECE = 64 << 10
SERVICE = "easel.fleet.v1.Releases"
_LONGEST_S = 600.0  # of one stream; the device goes on with another


@dataclass(frozen=True)
class Place:
    """Where the things of a fleet lie that the service needs.

    Attributes
    ----------
    folder
        The fleet's folder.
    """

    folder: Path

    @property
    def releases(self) -> Path:
        """Folder of the releases."""
        return self.folder / "releases"

    @property
    def signing_key(self) -> Path:
        """The private key that signs releases; the service itself never reads it."""
        return self.folder / "signing.key"

    def rotations(self) -> tuple[Signed, ...]:
        """Return all changes of the signing key, oldest first."""
        path = self.folder / "signing-rotations.json"
        if not path.exists():
            return ()
        return tuple(Signed.from_dict(item) for item in json.loads(read_bytes(path, limit=1 << 20)))

    def credentials(self) -> grpc.ServerCredentials:
        """Return the server's certificate and key, ready for TLS.

        Raises
        ------
        StorageError
            If one cannot be read.
        """
        pair = (read_bytes(self.folder / "server.key"), read_bytes(self.folder / "server.pem"))
        return grpc.ssl_server_credentials([pair])


class ReleaseService(fleet_pb2_grpc.ReleasesServicer):
    """Answers devices.

    Guarantees
    ----------
    Only enrolled devices get anything, whichever method they call. What one of them fetches, and how often, is
    bounded (:class:`server.allowance.Limits`). Nothing but the release in use is served.

    Parameters
    ----------
    place
        The fleet's folder.
    limits
        For each device.
    clock
        The time, with a zone.
    ticks
        Monotonic seconds, for the limits.
    """

    def __init__(
        self,
        place: Place,
        *,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._releases = Releases(place.releases, clock=clock)
        self._members = Members(place.folder / "devices.json")
        self._allowance = Allowance(limits or Limits(), clock=ticks)
        self._clock = clock

    async def GetCurrent(self, request: Any, context: Any) -> Any:
        """Return order, manifest and changes of the key."""
        await self._device(context, "GetCurrent")
        offer, _ = await self._offer(context)
        return fleet_pb2.Current(
            order=_message(offer.order),
            manifest=_message(offer.manifest),
            rotations=[_message(signed) for signed in offer.rotations],
        )

    async def GetWeights(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the weights from the offset on."""
        device = await self._device(context, "GetWeights")
        offer, path = await self._offer(context)
        manifest = self._releases.release(json.loads(offer.order.body)["version"]).manifest
        if request.sha256 != manifest.sha256:
            await _abort(context, grpc.StatusCode.NOT_FOUND, "these weights are not in use (any more)")
        if request.offset > manifest.size:
            await _abort(context, grpc.StatusCode.OUT_OF_RANGE, f"the file has {manifest.size} bytes")
        if not self._allowance.begin(device):
            await self._later(context, 5.0, "too many downloads at the same time")
        try:
            async for piece in self._pieces(path, request.offset, device, context):
                yield piece
        finally:
            self._allowance.end(device)

    async def _pieces(self, path: Path, offset: int, device: str, context: Any) -> AsyncIterator[Any]:
        until = time.monotonic() + _LONGEST_S
        handle = os.open(path, os.O_RDONLY)
        try:
            while data := os.pread(handle, PIECE, offset):
                wait = self._allowance.take(device, len(data))
                if wait:
                    await self._later(context, wait, "this device has fetched enough for now")
                yield fleet_pb2.Piece(offset=offset, data=data)
                offset += len(data)
                if time.monotonic() > until:
                    await _abort(context, grpc.StatusCode.UNAVAILABLE, "this stream took too long: go on with another")
        finally:
            os.close(handle)

    async def _device(self, context: Any, method: str) -> str:
        """Return the key of the device that calls, or refuse the call."""
        metadata = {item[0]: item[1] for item in context.invocation_metadata() or ()}
        try:
            device = recognize(metadata, f"/{SERVICE}/{method}", now=self._clock())
            if not self._members.includes(device):
                raise FederationError("this device does not belong to the fleet (any more)", hint="easel join")
        except FederationError as error:
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, error.message)
        except EaselError:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "the server cannot read its list of devices")
        wait = self._allowance.call(device)
        if wait:
            await self._later(context, wait, "this device calls too often")
        return device

    async def _offer(self, context: Any) -> tuple[Offer, Path]:
        try:
            return self._releases.offer(self._place.rotations())
        except MissingError as error:
            await _abort(context, grpc.StatusCode.NOT_FOUND, error.message)
        except (EaselError, OSError, ValueError):
            await _abort(context, grpc.StatusCode.UNAVAILABLE, "the server cannot read its releases")

    async def _later(self, context: Any, seconds: float, text: str) -> NoReturn:
        context.set_trailing_metadata((("easel-retry-after-ms", str(max(1, round(1000 * seconds)))),))
        await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, text)


async def serve(
    service: ReleaseService,
    address: str,
    *,
    credentials: grpc.ServerCredentials,
    stop: asyncio.Event,
    ready: Callable[[int], None] = lambda port: None,
    grace_s: float = 10.0,
) -> None:
    """Serve until ``stop`` is set; downloads under way then have ``grace_s`` to end.

    Parameters
    ----------
    address
        ``HOST:PORT``; port 0 takes a free one.
    credentials
        TLS; there is no way to serve without.
    ready
        Called with the port as soon as calls are answered.

    Raises
    ------
    InputError
        If the address cannot be used.
    """
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=4096)
    fleet_pb2_grpc.add_ReleasesServicer_to_server(service, server)
    doctor = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(doctor, server)
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise InputError(f"cannot listen on {address}", hint="is the port taken? choose another --port") from error
    await server.start()
    for name in ("", SERVICE):
        await doctor.set(name, health_pb2.HealthCheckResponse.SERVING)
    ready(port)
    try:
        await stop.wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await doctor.enter_graceful_shutdown()
            await server.stop(grace_s)


_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", 64 << 10),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.max_connection_idle_ms", 300_000),
)


async def _abort(context: Any, code: grpc.StatusCode, text: str) -> NoReturn:
    abort: Awaitable[Any] = context.abort(code, text)
    await abort
    raise AssertionError("abort raises")


def _message(signed: Signed) -> Any:
    return fleet_pb2.Signed(body=signed.body, key=signed.key, signature=signed.signature)
