"""What comes in: bodies of bounded size, JSON of the expected shape, painters' options."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from shared_model.config import parse
from shared_model.errors import EaselError, InputError
from shared_model.stylize import Options

__all__ = ["MAX_JSON_BYTES", "MAX_UPLOAD_BYTES", "TooLargeError", "file_name", "options_of", "read_json", "read_upload"]

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
    data = await _read(request, limit=MAX_UPLOAD_BYTES)
    if not data:
        raise InputError("this file is empty", hint="choose another one")
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
    data = await _read(request, limit=MAX_JSON_BYTES)
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


def file_name(request: Request) -> str:
    """Return the name of an uploaded file, which travels in a header, percent-encoded."""
    return urllib.parse.unquote(request.headers.get("x-easel-name", ""), errors="replace")[:300]


async def _read(request: Request, *, limit: int) -> bytes:
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:20]) > limit:
        raise _too_large(limit)
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                raise _too_large(limit)
    except ClientDisconnect as error:
        raise EaselError("the sender went away") from error
    return bytes(data)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"this is larger than {limit >> 10:,} kB", hint="make it smaller first")
