"""Fetches releases from a fleet's server: gRPC over TLS (``protos/fleet.proto``). Knows nothing private.

The module that speaks to the network gets a file to write to and a key to sign calls with; heads, pictures, ledgers
and the store are out of its reach (a test holds that). Nothing it returns is believed before
:func:`shared_model.release_rules.accept` has passed it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from protos import fleet_pb2, fleet_pb2_grpc
from shared_model.errors import EaselError, FederationError, MissingError, ReleaseError, StorageError
from shared_model.introduction import Introducer
from shared_model.release_rules import Offer
from shared_model.signatures import Signed

__all__ = ["ReleaseClient", "Source"]

_SERVICE = "/easel.fleet.v1.Releases/"
_ANSWER_S, _STREAM_S = 30.0, 900.0
_PATIENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
_TRIES = 6  # in a row, without a single byte
_LONGEST_WAIT_S = 120.0


@dataclass(frozen=True)
class Source:
    """Where to fetch, and as whom.

    Attributes
    ----------
    address
        ``HOST:PORT`` of the release service.
    ca
        Certificate of the fleet's authority, PEM; no other is believed.
    introducer
        Signs calls with the device's key.
    """

    address: str
    ca: bytes
    introducer: Introducer


class ReleaseClient:
    """A connection to a fleet's releases; use it in a ``with``.

    Parameters
    ----------
    source
        Where, and as whom.
    clock
        The time, for the calls' signatures.
    sleep
        Waits so many seconds before another try.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source, self._clock, self._sleep = source, clock, sleep
        options = [
            ("grpc.max_receive_message_length", 4 << 20),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.secure_channel(source.address, grpc.ssl_channel_credentials(source.ca), options=options)
        self._stub: Any = fleet_pb2_grpc.ReleasesStub(self._channel)
        self.received = 0

    def __enter__(self) -> ReleaseClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def offer(self) -> Offer:
        """Ask what is in use; nothing of the answer is verified yet.

        Raises
        ------
        FederationError
            If the server cannot be reached or refuses.
        MissingError
            If nothing was released yet.
        """
        try:
            answer = self._stub.GetCurrent(
                fleet_pb2.GetCurrentRequest(), metadata=self._introduce("GetCurrent"), timeout=_ANSWER_S
            )
        except grpc.RpcError as error:
            raise _explain(error, self._source.address) from error
        return Offer(_signed(answer.order), _signed(answer.manifest), tuple(map(_signed, answer.rotations)))

    def download(
        self, sha256: str, *, size: int, into: Path, progress: Callable[[float, str], None] = lambda share, word: None
    ) -> None:
        """Bring a file to its full size and check its hash; what is there already is not fetched again.

        A stream that breaks is continued from where it broke, at once or in a later call.

        Parameters
        ----------
        sha256, size
            Of the whole file, from a verified manifest.
        into
            The unfinished file; kept when this is interrupted.
        progress
            Called with the share done, in [0, 1].

        Raises
        ------
        FederationError
            If the server cannot be reached any more; what was fetched is kept.
        ReleaseError
            If the server sends something else; it is then removed.
        """
        tries = 0
        while (have := _size(into, size)) < size:
            try:
                self._stream(sha256, size, into, progress)
                broken: grpc.RpcError | None = None
            except grpc.RpcError as error:
                broken = error
            tries = 0 if _size(into, size) > have else tries + 1
            if (broken is not None and not _may_try_again(broken)) or tries >= _TRIES:
                raise _explain(broken, self._source.address)
            if _size(into, size) < size:
                self._sleep(_wait(broken, tries))
        with open(into, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            into.unlink()
            raise ReleaseError(
                "what was fetched does not have the SHA-256 of its manifest",
                hint="it was removed; fetch it again",
                reason="mismatch",
            )

    def _stream(self, sha256: str, size: int, into: Path, progress: Callable[[float, str], None]) -> None:
        offset = _size(into, size)
        request = fleet_pb2.GetWeightsRequest(sha256=sha256, offset=offset)
        call: Iterator[Any] = self._stub.GetWeights(request, metadata=self._introduce("GetWeights"), timeout=_STREAM_S)
        try:
            with open(into, "ab") as file:
                for piece in call:
                    if piece.offset != offset or offset + len(piece.data) > size:
                        file.truncate(0)
                        raise ReleaseError("the server sends more, or other bytes, than asked for", reason="oversize")
                    file.write(piece.data)
                    offset += len(piece.data)
                    self.received += len(piece.data)
                    progress(offset / size, "")
        except OSError as error:
            raise StorageError(
                f"cannot write {into}: {error.strerror}", hint="free some space, then fetch again"
            ) from error
        finally:
            call.cancel()  # type: ignore[attr-defined]

    def _introduce(self, method: str) -> tuple[tuple[str, str | bytes], ...]:
        return self._source.introducer.introduce(_SERVICE + method, now=self._clock())


def _size(path: Path, most: int) -> int:
    """Return how many bytes are there; a file that is too long cannot be right and is removed."""
    if not path.exists():
        return 0
    size = path.stat().st_size
    if size > most:
        path.unlink()
        return 0
    return size


def _may_try_again(error: grpc.RpcError) -> bool:
    return error.code() in _PATIENT or 0 < _retry_after(error) <= _LONGEST_WAIT_S


def _retry_after(error: grpc.RpcError) -> float:
    """Return the seconds after which the server asks to try again; 0: it does not."""
    for key, value in error.trailing_metadata() or ():
        if key == "easel-retry-after-ms" and str(value).isdecimal():
            return int(value) / 1000
    return 0.0


def _wait(error: grpc.RpcError | None, tries: int) -> float:
    asked = 0.0 if error is None else _retry_after(error)
    return asked or min(8.0, 0.25 * 2**tries)


def _explain(error: grpc.RpcError | None, address: str) -> EaselError:
    """Return what went wrong in words of ours."""
    if error is None:
        return FederationError(f"{address} ends every stream early", hint="what was fetched is kept; try again later")
    code, text = error.code(), str(error.details() or "")[:300]
    kept = "what was fetched is kept; the same command goes on"
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return FederationError(f"the server does not let this device in: {text}", hint="easel join makes it a member")
    if code == grpc.StatusCode.NOT_FOUND:
        return MissingError(f"nothing to fetch: {text}", hint="ask the fleet's operator, or try again later")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        wait = _retry_after(error)
        return FederationError(f"fetched too much for now: {text}", hint=f"try again in {wait:.0f} s; {kept}")
    if "CERTIFICATE_VERIFY_FAILED" in text or "handshake" in text.lower() or "Hostname Verification" in text:
        return FederationError(
            f"{address} does not show a certificate of this fleet: {text}",
            hint="nothing was sent to it; is the address right, and the certificate renewed?",
        )
    return FederationError(f"{address} cannot be reached or broke off ({code.name}): {text}", hint=kept)


def _signed(message: Any) -> Signed:
    return Signed(bytes(message.body), str(message.key), bytes(message.signature))
