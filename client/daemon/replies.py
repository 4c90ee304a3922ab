"""Errors as gRPC statuses: the message and the hint of easel's own, and nothing of anything else.

What a client reads never holds a traceback, nor a path of this computer's: a client may be a program that the owner
trusts with pictures and with nothing more.
"""

from __future__ import annotations

import asyncio
import functools
import re
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio

from client.job_queue import BusyError
from client.jobs import DroppedError
from client.paths import home_folder
from shared_model.errors import CompatibilityError, EaselError, InputError, MissingError, PrivacyError

__all__ = ["GoneError", "answers", "refuse", "status_of", "without_paths"]

Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])
_CODES = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (MissingError, grpc.StatusCode.NOT_FOUND),
    (CompatibilityError, grpc.StatusCode.FAILED_PRECONDITION),
    (PrivacyError, grpc.StatusCode.FAILED_PRECONDITION),
    (BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
)
_DROPPED = {
    "cancelled": grpc.StatusCode.CANCELLED,
    "late": grpc.StatusCode.DEADLINE_EXCEEDED,
    "stopping": grpc.StatusCode.UNAVAILABLE,
}
_PATH = re.compile(r"(?<![\w.<])/(?:[^\s:;,'\"()]+/)*[^\s:;,'\"()]+")
_MAX_TEXT = 1000


class GoneError(Exception):
    """The client went away in the middle of a message: nobody is left to be told anything."""


def status_of(error: EaselError) -> grpc.StatusCode:
    """Return the status that an error becomes."""
    if isinstance(error, DroppedError):
        return _DROPPED[error.why]
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def without_paths(text: str) -> str:
    """Return one line without a path of this computer in it."""
    known = {str(home_folder()): "<home>", str(Path(__file__).resolve().parents[2]): "<easel>"}
    known |= {tempfile.gettempdir(): "<tmp>", str(Path.home()): "<home>"}
    for path in sorted(known, key=len, reverse=True):  # they may hold spaces, which the pattern cannot know
        if len(path) > 1:
            text = re.sub(re.escape(path) + r"[^\s:;,'\"()]*", known[path], text)
    return " ".join(_PATH.sub("<path>", text).split())[:_MAX_TEXT]


async def refuse(context: Any, error: EaselError) -> NoReturn:
    """End a call with an error."""
    message, hint = without_paths(error.message), without_paths(error.hint)
    trailer: list[tuple[str, str | bytes]] = [("easel-error", type(error).__name__), ("easel-hint-bin", hint.encode())]
    if isinstance(error, BusyError):
        trailer.append(("easel-retry-after-ms", str(round(error.retry_after_s * 1000))))
    await context.abort(status_of(error), f"{message} (hint: {hint})" if hint else message, tuple(trailer))
    raise AssertionError("abort returns never")


def answers(method: Method) -> Method:
    """Let the method of a service end with easel's errors; any other one is told in the daemon's own log alone."""

    @functools.wraps(method)
    async def guarded(self: object, request: object, context: Any) -> object:
        try:
            return await method(self, request, context)
        except EaselError as error:
            await refuse(context, error)
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except GoneError:
            raise asyncio.CancelledError from None
        except Exception:
            traceback.print_exc(file=sys.stderr)
            await refuse(context, EaselError("the daemon could not finish this", hint="what it printed says why"))

    return guarded  # type: ignore[return-value]
