"""The studio's ASGI application: the gate in front, the page, and every error as JSON with a message and a hint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.studio.desk import Desk
from client.studio.gate import HEADERS, Gate, RefusedError
from client.studio.intake import TooLargeError, read_json
from client.studio.jobs import BusyError
from shared_model.errors import (
    CompatibilityError,
    EaselError,
    InputError,
    LedgerError,
    MissingError,
    StorageError,
)

__all__ = ["build_app", "guarded_app", "page_files"]

SESSION = "/api/session"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATUS: tuple[tuple[type[EaselError], int], ...] = (
    (BusyError, 429),
    (TooLargeError, 413),
    (MissingError, 404),
    (CompatibilityError, 409),
    (LedgerError, 409),
    (StorageError, 507),
    (InputError, 400),
)


def page_files(folder: str = "static") -> dict[str, tuple[bytes, str]]:
    """Return the page: content and media type by path. Only these can be asked for, so no path leads elsewhere."""
    found = {}
    for file in resources.files("client.studio").joinpath(folder).iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            found["/" if file.name == "index.html" else f"/{file.name}"] = (file.read_bytes(), _TYPES[suffix])
    return found


def build_app(desk: Desk, *, gate: Gate) -> ASGIApp:
    """Put the application together.

    Parameters
    ----------
    desk
        What answers.
    gate
        Who may ask.
    """
    return guarded_app(page_files(), desk.routes(), gate=gate)


def guarded_app(files: Mapping[str, tuple[bytes, str]], answers: Sequence[Route], *, gate: Gate) -> ASGIApp:
    """Put a page's files and what answers it behind a gate.

    Parameters
    ----------
    files
        As :func:`page_files` returns them; they need no key.
    answers
        Everything else, which does.
    gate
        Who may ask.
    """

    async def page(request: Request) -> Response:
        content, kind = files[request.url.path]
        return Response(content, media_type=kind)

    async def session(request: Request) -> Response:
        asked = await read_json(request)
        ticket = asked.get("ticket")
        if not isinstance(ticket, str):
            raise InputError("a ticket is missing", hint="open the address that easel studio printed")
        return JSONResponse({"key": gate.redeem(ticket)})

    routes = [Route(path, page) for path in files]
    routes.append(Route(SESSION, session, methods=["POST"]))
    routes += answers
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        EaselError: _refuse,
        HTTPException: _unknown,
        Exception: _broken,
    }
    inner = Starlette(routes=routes, exception_handlers=handlers)
    return _Guard(inner, gate=gate, public=frozenset(files))


class _Guard:
    """Asks the gate before anything else sees a request, and puts its headers on every answer."""

    def __init__(self, app: ASGIApp, *, gate: Gate, public: frozenset[str]) -> None:
        self.app, self.gate, self.public = app, gate, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets here

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *ours]}
            await send(message)

        method, path = scope["method"], scope["path"]
        public = (path in self.public and method in ("GET", "HEAD")) or (path == SESSION and method == "POST")
        try:
            self.gate.check(method, _headers(scope), public=public)
        except RefusedError as error:
            await _answer(error, error.status)(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; one that is given twice counts as none of them."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        found[name] = value.decode("latin-1") if name not in found else "given twice"
    return found


def _answer(error: EaselError, status: int) -> JSONResponse:
    told: Mapping[str, str] = {"message": error.message, "hint": error.hint, "kind": type(error).__name__}
    return JSONResponse({"error": told}, status_code=status)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, EaselError)
    if isinstance(error, RefusedError):
        return _answer(error, error.status)
    return _answer(error, next((status for kind, status in _STATUS if isinstance(error, kind)), 400))


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _answer(EaselError("there is nothing at this address", hint="reload the page"), status)


async def _broken(request: Request, error: Exception) -> Response:
    hint = "this is a mistake in easel; please report it with these words"
    return _answer(EaselError(f"something went wrong inside easel ({type(error).__name__})", hint=hint), 500)
