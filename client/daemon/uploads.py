"""Messages and files that come in pieces: in order, in time, and no larger than agreed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from client.daemon.guards import GARBAGE, NOT_A_MESSAGE
from client.daemon.replies import GoneError
from client.job_queue import Limits, Ticket
from shared_model.errors import InputError

__all__ = ["CHUNK", "Download", "Settings", "Upload"]

CHUNK = 256 << 10


@dataclass(frozen=True)
class Settings:
    """What one daemon allows.

    Attributes
    ----------
    painting, learning
        How many calls at once, of each kind.
    max_upload_bytes
        All files of one call.
    message_bytes
        One message.
    idle_s
        How long a client may be silent in the middle of an upload, or not take what it asked for.
    upload_s
        How long an upload may take.
    grace_s
        How long a picture that is being painted may still take when the daemon is told to stop.
    """

    painting: Limits = field(default_factory=Limits)
    learning: Limits = field(default_factory=lambda: Limits(calls=8, calls_per_client=2, held_bytes=1 << 29))
    max_upload_bytes: int = 128 << 20
    message_bytes: int = 4 << 20
    idle_s: float = 30.0
    upload_s: float = 600.0
    grace_s: float = 20.0


class Upload:
    """What a client sends in one call.

    Parameters
    ----------
    context
        Of the call.
    settings
        What is allowed.
    """

    def __init__(self, context: Any, settings: Settings) -> None:
        self._context = context
        self._settings = settings
        self._until = asyncio.get_running_loop().time() + settings.upload_s
        self._count = 0

    async def next(self) -> tuple[str, Any]:
        """Return the kind and the value of the next message; kind ``end`` when there is no more.

        Raises
        ------
        InputError
            If it does not come in time, or is none of the kinds that the service knows.
        """
        patience = min(self._settings.idle_s, self._until - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(max(0.0, patience)):  # wait_for may swallow that the client cancels
                message = await self._context.read()
        except TimeoutError:
            raise InputError("the upload stands still, or takes too long", hint="send it again") from None
        except grpc.aio.BaseError as error:
            raise GoneError("the client went away") from error
        if message is GARBAGE:
            raise NOT_A_MESSAGE
        if message is grpc.aio.EOF:
            return "end", None
        kind = message.WhichOneof("part")
        if kind is None:
            raise InputError("a message holds nothing that is known here", hint="is the client of this version?")
        return kind, getattr(message, kind)

    async def start(self) -> Any:
        """Return the first message, which says what is wanted.

        Raises
        ------
        InputError
            If something else comes first.
        """
        kind, value = await self.next()
        if kind != "start":
            raise InputError(f"the first message must be `start`, not `{kind}`")
        return value

    async def file(self, ticket: Ticket) -> tuple[bytes, str, Any]:
        """Put the chunks of one file together.

        Returns
        -------
        tuple
            The file, and the kind and value of the message after it.

        Raises
        ------
        BusyError
            If there is no memory for it now.
        InputError
            If it is too large, or late.
        """
        chunks: list[bytes] = []
        while (message := await self.next())[0] == "chunk":
            self.expect(len(message[1]))
            ticket.hold(len(message[1]))
            self._count += len(message[1])
            chunks.append(message[1])
        return b"".join(chunks), *message

    def expect(self, count: int) -> None:
        """Refuse ``count`` more bytes if all are then too many.

        Raises
        ------
        InputError
            If they are.
        """
        most = self._settings.max_upload_bytes
        if self._count + count > most:
            raise InputError(f"more than {most:,} bytes are too large an upload", hint="make the picture smaller")


class Download:
    """What a client is sent in one call.

    Parameters
    ----------
    context
        Of the call.
    reply
        The type of its messages.
    settings
        What is allowed.
    """

    def __init__(self, context: Any, reply: Any, settings: Settings) -> None:
        self._context = context
        self._reply = reply
        self._settings = settings

    async def send(self, **part: object) -> None:
        """Send one message.

        Raises
        ------
        InputError
            If the client does not take it in time.
        """
        try:
            async with asyncio.timeout(self._settings.idle_s):
                await self._context.write(self._reply(**part))
        except TimeoutError:
            raise InputError("nobody takes what was asked for") from None
        except grpc.aio.BaseError as error:
            raise GoneError("the client went away") from error

    async def file(self, data: bytes) -> None:
        """Send a file in chunks."""
        for begin in range(0, len(data), CHUNK):
            await self.send(chunk=data[begin : begin + CHUNK])
