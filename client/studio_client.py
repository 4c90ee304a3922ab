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
from dataclasses import asdict
from types import TracebackType
from typing import Any, cast

import grpc

from client.daemon.place import Place
from client.studio_replies import CallError, Head, Manner, Painting, Progress, Taste, head_of, raise_it, taste_of
from protos import studio_pb2 as pb
from protos import studio_pb2_grpc
from shared_model.errors import MissingError

__all__ = ["CallError", "Client", "Head", "Manner", "Painting", "Progress", "Taste"]

CHUNK = 256 << 10
_MESSAGE_BYTES = 4 << 20


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
        head: str = "",
        mix: Mapping[str, float] | None = None,
        strength: float | None = None,
        detail: float | None = None,
        keep_color: bool | None = None,
        brush: float | None = None,
        size_px: int | None = None,
        seed: int = 0,
        plain: bool = False,
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
        head, mix
            A head, or heads and their weights; exactly one of the two.
        strength, detail, keep_color, brush, size_px, seed, plain
            As of ``easel stylize``; ``None`` is what the owner prefers, else easel's default.
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
        options = pb.Options(
            strength=strength,
            detail=detail,
            keep_color=keep_color,
            brush=brush,
            size_px=size_px,
            seed=seed,
            plain=plain,
        )
        start = pb.StylizeStart(head=head, mix=mix, options=options, format=format)
        return self._paint(start, photo, progress=progress, timeout_s=timeout_s, patience_s=patience_s)

    def candidate(
        self,
        photo: bytes,
        head: str,
        *,
        manner: Manner,
        partner: str = "",
        size_px: int | None = None,
        progress: Listener | None = None,
    ) -> Painting:
        """Paint one photo in a manner that :meth:`candidates` returned; raises like :meth:`stylize`."""
        mix = {head: 1 - manner.share, partner: manner.share} if partner and manner.share else None
        given = {field: getattr(manner, field) for field in manner.__dataclass_fields__ if field != "share"}
        options = pb.Options(plain=True, size_px=size_px, **given)
        start = pb.StylizeStart(head="" if mix else head, mix=mix, options=options)
        return self._paint(start, photo, progress=progress, timeout_s=None, patience_s=60.0)

    def _paint(
        self, start: Any, photo: bytes, *, progress: Listener | None, timeout_s: float | None, patience_s: float
    ) -> Painting:
        start.size_bytes = len(photo)
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
        strokes: str = "fine",
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
        budget_s, seed, strokes, overwrite
            As of ``easel personalize``.
        progress, timeout_s
            As of :meth:`stylize`.
        """
        start = pb.PersonalizeStart(name=name, budget_seconds=budget_s, seed=seed, overwrite=overwrite, strokes=strokes)
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
        return head_of(made[-1].head)

    def heads(self) -> list[Head]:
        """List all heads, own ones first."""
        reply = self._ask(studio_pb2_grpc.HeadsStub(self._channel).List, pb.ListHeadsRequest())
        return [head_of(head) for head in reply.heads]

    def head(self, name: str) -> Head:
        """Tell about one head."""
        return head_of(self._ask(studio_pb2_grpc.HeadsStub(self._channel).Show, pb.ShowHeadRequest(name=name)))

    def rename_head(self, name: str, new_name: str) -> Head:
        """Give an own head another name."""
        request = pb.RenameHeadRequest(name=name, new_name=new_name)
        return head_of(self._ask(studio_pb2_grpc.HeadsStub(self._channel).Rename, request))

    def delete_head(self, name: str) -> None:
        """Delete an own head for good."""
        self._ask(studio_pb2_grpc.HeadsStub(self._channel).Delete, pb.DeleteHeadRequest(name=name))

    def candidates(self, head: str, *, count: int = 4, seed: int = 0, partner: str | None = None) -> Taste:
        """Ask what to show next.

        Parameters
        ----------
        count
            How many, 2 to 12.
        partner
            Head of which a share is tried too; empty: of none; ``None``: as before.
        """
        request = pb.CandidatesRequest(head=head, count=count, seed=seed, partner=partner)
        return taste_of(self._ask(studio_pb2_grpc.PreferencesStub(self._channel).Candidates, request))

    def choose(self, taste: Taste, order: Sequence[int]) -> Taste:
        """Say which candidates are liked.

        Parameters
        ----------
        taste
            What :meth:`candidates` returned.
        order
            Places among its candidates from 0, best first.

        Raises
        ------
        InputError
            If the order makes no sense, or candidates have a share of another head than the one mixed in by now.
        """
        shown = [pb.Manner(**asdict(one)) for one in taste.candidates]
        request = pb.ChooseRequest(head=taste.head, shown=shown, order=order, partner=taste.partner)
        return taste_of(self._ask(studio_pb2_grpc.PreferencesStub(self._channel).Choose, request))

    def suggest(self, head: str) -> Taste:
        """Tell what the owner should like most."""
        return taste_of(self._ask(studio_pb2_grpc.PreferencesStub(self._channel).Suggest, pb.SuggestRequest(head=head)))

    def apply(self, head: str) -> Taste:
        """Paint as the owner should like most from now on, where a call says nothing else."""
        return taste_of(self._ask(studio_pb2_grpc.PreferencesStub(self._channel).Apply, pb.ApplyRequest(head=head)))

    def reset(self, head: str) -> Taste:
        """Forget all choices."""
        return taste_of(self._ask(studio_pb2_grpc.PreferencesStub(self._channel).Reset, pb.ResetRequest(head=head)))

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
            raise_it(error)


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
        raise_it(error)
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
