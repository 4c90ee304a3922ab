"""What comes in: bodies of bounded size, JSON of the expected shape, painters' options."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from client.preferences import Manner
from shared_model.config import parse
from shared_model.errors import EaselError, InputError
from shared_model.look import Look
from shared_model.stylize import Options

__all__ = [
    "MAX_JSON_BYTES",
    "MAX_UPLOAD_BYTES",
    "TooLargeError",
    "file_name",
    "look_of",
    "manners_of",
    "options_of",
    "read_json",
    "read_upload",
]

MAX_UPLOAD_BYTES = 64 << 20
MAX_JSON_BYTES = 64 << 10


class TooLargeError(InputError):
    """More bytes than are taken in."""


async def read_upload(request: Request) -> bytes:
    """Read the bytes of a picture.

    Raises
    ------
    TooLargeError
        As soon as there are more than `MAX_UPLOAD_BYTES`.
    InputError
        If there are none, or the sender went away.
    """
    data = await _read(request, limit=MAX_UPLOAD_BYTES, what="the picture")
    if not data:
        raise InputError("the picture is empty (zero bytes)", hint="choose another one")
    return data


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    TooLargeError
        If it has more than `MAX_JSON_BYTES`.
    InputError
        If it is something else.
    """
    data = await _read(request, limit=MAX_JSON_BYTES, what="this")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("this is not JSON", hint="reload the page") from error
    if not isinstance(value, dict):
        raise InputError("this is not a JSON object", hint="reload the page")
    return value


def options_of(value: Mapping[str, Any]) -> Options:
    """Return the painter's options in a request.

    Raises
    ------
    InputError
        If one is unknown, of the wrong type or out of range.
    """
    options = value.get("options", {})
    if not isinstance(options, Mapping):
        raise InputError("these are no options of a painting", hint="reload the page")
    return parse(options, Options, source="the page")


def look_of(value: Mapping[str, Any]) -> Look:
    """Return how the head is bent in a request; raises InputError like :func:`options_of`."""
    look = value.get("look", {})
    if not isinstance(look, Mapping):
        raise InputError("this is no look of a painting", hint="reload the page")
    return parse(look, Look, source="the page")


def manners_of(value: Mapping[str, Any]) -> tuple[Manner, ...]:
    """Return the candidates that were shown; raises InputError like :func:`options_of`."""
    shown = value.get("shown")
    if not isinstance(shown, list) or len(shown) > 12 or not all(isinstance(one, Mapping) for one in shown):
        raise InputError("shown is missing or is no list of candidates", hint="reload the page")
    return tuple(parse(one, Manner, source="the page") for one in shown)


def file_name(request: Request) -> str:
    """Return the name of an uploaded file, which travels in a header, percent-encoded."""
    return urllib.parse.unquote(request.headers.get("x-easel-name", ""), errors="replace")[:300]


def text(value: dict[str, Any], key: str, *, missing: str | None = None, most: int = 300) -> str:
    """Return a short text in a request.

    Raises
    ------
    InputError
        If it is something else.
    """
    found = value.get(key, missing)
    if not isinstance(found, str) or len(found) > most:
        raise InputError(f"{key} is missing or is no short text", hint="reload the page")
    return found


def texts(value: dict[str, Any], key: str) -> list[str]:
    """Return a list of short texts in a request.

    Raises
    ------
    InputError
        If it is something else.
    """
    found = value.get(key)
    if not isinstance(found, list) or len(found) > 100 or not all(isinstance(one, str) for one in found):
        raise InputError(f"{key} is missing or is no list of names", hint="reload the page")
    return found


async def _read(request: Request, *, limit: int, what: str) -> bytes:
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:20]) > limit:
        raise _too_large(limit, what)
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                raise _too_large(limit, what)
    except ClientDisconnect as error:
        raise EaselError("the sender went away") from error
    return bytes(data)


def _too_large(limit: int, what: str) -> TooLargeError:
    return TooLargeError(f"{what} is larger than {limit >> 10:,} kB", hint="make it smaller first")
