"""A client of the daemon (``easel serve``) for Python programs: typed, small, and without torch.

Examples
--------
::

    from client.studio_client import Client

    with Client.connect() as painter:
        painting = painter.stylize(Path("photo.jpg").read_bytes(), head="oil")
    Path("painted.png").write_bytes(painting.data)

Installed from a wheel the module is ``easel.client.studio_client``. Every error of the daemon is raised as the same
class of :mod:`shared_model.errors` that the daemon met, with its message and hint.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, cast

import grpc

from client.daemon.place import Place
from protos import studio_pb2 as pb
from protos import studio_pb2_grpc
from shared_model import errors
from shared_model.errors import EaselError, MissingError

__all__ = ["CallError", "Client", "Head", "Painting", "Progress"]

CHUNK = 256 << 10
_MESSAGE_BYTES = 4 << 20


class CallError(EaselError):
    """A call failed for another reason than a mistake in what was asked.

    Attributes
    ----------
    code
        gRPC's, such as ``UNAVAILABLE``, ``CANCELLED``, ``DEADLINE_EXCEEDED`` or ``RESOURCE_EXHAUSTED``.
    retry_after_s
        With ``RESOURCE_EXHAUSTED``: when to try again.
    """

    def __init__(self, message: str, *, hint: str = "", code: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Progress:
    """Where a call stands: a stage such as ``queued``, the fraction done, jobs ahead, the loss while tuning."""

    stage: str
    fraction: float
    ahead: int
    loss: float


@dataclass(frozen=True)
class Painting:
    """A painted picture file, its size in pixels, how it was made, and the seconds of work."""

    data: bytes
    width: int
    height: int
    format: str
    settings: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Head:
    """What the daemon tells about a head; ``damage`` is empty for one that can be used."""

    name: str
    shipped: bool
    size_bytes: int
    images: int
    created: str
    backbone: str
    matches: bool
    damage: str


Listener = Callable[[Progress], None]


class Client:
    """A connection to the daemon; close it, or use it in a ``with``.

    Parameters
    ----------
    address
        ``unix:...`` or ``127.0.0.1:PORT``.
    token
        Of a daemon on TCP.
    name
        Work is dealt out in turn among names; default: a random one for each client.
    """

    def __init__(self, address: str, *, token: str = "", name: str = "") -> None:
        options = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._metadata = [("easel-client", name or secrets.token_hex(8))]
        if token:
            self._metadata.append(("authorization", f"Bearer {token}"))

    @classmethod
    def connect(cls, *, timeout_s: float = 10.0, place: Place | None = None, name: str = "") -> Client:
        """Connect to the daemon of this user.

        Raises
        ------
        MissingError
            If none is running.
        CallError
            If it does not answer in time.
        """
        record = (place or Place.default()).running()
        if record is None:
            raise MissingError("no daemon is running", hint="start it: easel serve")
        client = cls(record.address, token=record.token, name=name)
        try:
            grpc.channel_ready_future(client._channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            client.close()
            raise CallError("the daemon does not answer", hint="easel serve --status", code="UNAVAILABLE") from None
        return client

    def close(self) -> None:
        """Hang up; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stylize(
        self,
        photo: bytes,
        *,
        head: str,
        strength: float | None = None,
        detail: float | None = None,
        keep_color: bool = False,
        size_px: int | None = None,
        seed: int = 0,
        format: str = "png",
        progress: Listener | None = None,
        timeout_s: float | None = None,
        patience_s: float = 60.0,
    ) -> Painting:
        """Paint one photo.

        Parameters
        ----------
        photo
            The bytes of a picture file.
        head, strength, detail, keep_color, size_px, seed
            As of ``easel stylize``; ``None`` is easel's default.
        format
            ``png`` (carries the settings), ``jpg``, ``webp`` or ``tiff``.
        progress
            Gets the news; an exception it raises cancels the call and is passed on.
        timeout_s
            Deadline, waiting included.
        patience_s
            How long to come back when all places are taken.

        Raises
        ------
        EaselError
            What the daemon met.
        CallError
            If the call ended for another reason.
        """
        options = pb.Options(strength=strength, detail=detail, keep_color=keep_color, size_px=size_px, seed=seed)
        start = pb.StylizeStart(head=head, options=options, format=format, size_bytes=len(photo))
        stub = studio_pb2_grpc.PainterStub(self._channel)

        def messages() -> Iterator[Any]:
            yield pb.StylizeRequest(start=start)
            yield from (pb.StylizeRequest(chunk=chunk) for chunk in _chunks(photo))

        until = time.monotonic() + patience_s
        while True:
            try:
                return _painting(_replies(self._call(stub.Stylize, messages(), timeout_s), progress))
            except CallError as error:
                if error.code != "RESOURCE_EXHAUSTED" or time.monotonic() + error.retry_after_s > until:
                    raise
                time.sleep(max(0.1, error.retry_after_s))

    def personalize(
        self,
        name: str,
        pictures: Sequence[bytes],
        *,
        photos: Sequence[bytes] = (),
        budget_s: float = 20.0,
        seed: int = 0,
        overwrite: bool = False,
        progress: Listener | None = None,
        timeout_s: float | None = None,
    ) -> Head:
        """Make a head from pictures and save it; raises like :meth:`stylize`.

        Parameters
        ----------
        name
            What to call it.
        pictures, photos
            Picture files whose style is wanted, and files to practise on.
        budget_s, seed, overwrite
            As of ``easel personalize``.
        progress, timeout_s
            As of :meth:`stylize`.
        """
        start = pb.PersonalizeStart(name=name, budget_seconds=budget_s, seed=seed, overwrite=overwrite)
        stub = studio_pb2_grpc.PainterStub(self._channel)

        def messages() -> Iterator[Any]:
            yield pb.PersonalizeRequest(start=start)
            for practice, files in ((False, pictures), (True, photos)):
                for file in files:
                    yield pb.PersonalizeRequest(picture=pb.PersonalizePicture(practice=practice))
                    yield from (pb.PersonalizeRequest(chunk=chunk) for chunk in _chunks(file))

        made = [reply.made for reply in _replies(self._call(stub.Personalize, messages(), timeout_s), progress)]
        if not made:
            raise CallError("the daemon ended the call without a head", code="INTERNAL")
        return _head(made[-1].head)

    def heads(self) -> list[Head]:
        """List all heads, own ones first."""
        reply = self._ask(studio_pb2_grpc.HeadsStub(self._channel).List, pb.ListHeadsRequest())
        return [_head(head) for head in reply.heads]

    def head(self, name: str) -> Head:
        """Tell about one head."""
        return _head(self._ask(studio_pb2_grpc.HeadsStub(self._channel).Show, pb.ShowHeadRequest(name=name)))

    def rename_head(self, name: str, new_name: str) -> Head:
        """Give an own head another name."""
        request = pb.RenameHeadRequest(name=name, new_name=new_name)
        return _head(self._ask(studio_pb2_grpc.HeadsStub(self._channel).Rename, request))

    def delete_head(self, name: str) -> None:
        """Delete an own head for good."""
        self._ask(studio_pb2_grpc.HeadsStub(self._channel).Delete, pb.DeleteHeadRequest(name=name))

    def ledger(self) -> dict[str, Any]:
        """Return the document of ``easel privacy --json``, or an empty one if this device never took part."""
        reply = self._ask(studio_pb2_grpc.PrivacyStub(self._channel).GetLedger, pb.GetLedgerRequest())
        return cast("dict[str, Any]", json.loads(reply.json))

    def version(self) -> dict[str, Any]:
        """Return version, backbone, device, limits and the number of calls under way."""
        reply = self._ask(studio_pb2_grpc.AboutStub(self._channel).GetVersion, pb.GetVersionRequest())
        return {field.name: getattr(reply, field.name) for field in reply.DESCRIPTOR.fields}

    def _call(self, method: Any, messages: Iterable[Any], timeout_s: float | None) -> Any:
        return method(iter(messages), metadata=self._metadata, timeout=timeout_s)

    def _ask(self, method: Any, request: Any) -> Any:
        try:
            return method(request, metadata=self._metadata, timeout=60.0)
        except grpc.RpcError as error:
            _raise(error)


def _chunks(data: bytes) -> Iterator[bytes]:
    return (data[begin : begin + CHUNK] for begin in range(0, len(data), CHUNK))


def _replies(call: Any, progress: Listener | None) -> Iterator[Any]:
    """Yield what is no news; whatever ends this early, a Ctrl-C too, cancels the call."""
    try:
        for reply in call:
            if reply.WhichOneof("part") != "progress":
                yield reply
            elif progress is not None:
                told = reply.progress
                stage = pb.Stage.Name(told.stage).lower()
                progress(Progress(stage, told.fraction, told.ahead, told.loss))
    except grpc.RpcError as error:
        _raise(error)
    finally:
        call.cancel()


def _painting(replies: Iterator[Any]) -> Painting:
    first = next(replies, None)
    if first is None or first.WhichOneof("part") != "result":
        raise CallError("the daemon ended the call without a picture", code="INTERNAL")
    told = first.result
    data = b"".join(reply.chunk for reply in replies)
    if len(data) != told.size_bytes:
        raise CallError("the picture came in part only", hint="ask again", code="DATA_LOSS")
    return Painting(data, told.width, told.height, told.format, json.loads(told.settings), told.seconds)


def _head(message: Any) -> Head:
    return Head(**{field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields})


def _raise(error: Any) -> NoReturn:
    """Raise what the daemon met."""
    code = error.code().name
    told = {key: value for key, value in error.trailing_metadata() or ()}
    hint = bytes(told.get("easel-hint-bin", b"")).decode("utf-8", "replace")
    message = (error.details() or "no reason given").removesuffix(f" (hint: {hint})")
    kind = getattr(errors, str(told.get("easel-error", "")), None)
    if isinstance(kind, type) and issubclass(kind, EaselError) and kind is not EaselError:
        raise kind(message, hint=hint) from None
    if code == "UNAVAILABLE" and not hint:
        hint = "is the daemon still running? easel serve --status"
    wait_s = int(told.get("easel-retry-after-ms", "0")) / 1000
    raise CallError(message, hint=hint, code=code, retry_after_s=wait_s) from None
