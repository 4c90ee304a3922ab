"""The page of ``easel live``: one picture that is asked for again and again, behind the studio's gate."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from client.live_show import Show
from client.studio.app import guarded_app, page_files
from client.studio.gate import Gate
from client.studio.intake import read_json
from shared_model.errors import InputError

__all__ = ["live_app"]

_WAIT_S = 5.0


def live_app(show: Show, *, gate: Gate) -> ASGIApp:
    """Return the application.

    ``GET /api/frame?after=N`` answers with the newest painting later than N as a JPEG, its number, frames a second
    and size in ``X-Easel-*`` headers; 204 if there is none within five seconds. ``POST /api/pause`` with
    ``{"paused": true}`` stops painting.
    """

    async def frame(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 16):
            raise InputError("after must be the number of a frame")
        shown = await run_in_threadpool(show.after, int(after), wait_s=_WAIT_S)
        if shown is None:
            return Response(status_code=204)
        facts = {"number": shown.number, "fps": f"{shown.fps:.1f}", "size": f"{shown.size[1]} x {shown.size[0]}"}
        headers = {f"x-easel-{name}": str(value) for name, value in facts.items()}
        return Response(shown.jpeg, media_type="image/jpeg", headers=headers)

    async def pause(request: Request) -> Response:
        paused = (await read_json(request)).get("paused")
        if not isinstance(paused, bool):
            raise InputError("paused must be true or false")
        show.pause(paused)
        return JSONResponse({"paused": paused})

    shared = page_files()
    files = page_files("live") | {path: shared[path] for path in ("/api.js", "/icon.svg")}
    routes = [Route("/api/frame", frame), Route("/api/pause", pause, methods=["POST"])]
    return guarded_app(files, routes, gate=gate)
