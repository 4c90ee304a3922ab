"""How the studio answers: work done off the event loop, pictures, and what is known of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import to_thread
from starlette.responses import JSONResponse, Response

from client.studio.jobs import Job

__all__ = ["accepted", "picture", "threaded", "told"]


async def threaded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run ``call`` in a thread and return its result."""
    return await to_thread.run_sync(call, *arguments)


def told(job: Job) -> dict[str, Any]:
    """Return what the page may know of a job."""
    error = None if job.error is None else {"message": job.error.message, "hint": job.error.hint}
    return {
        "id": job.id,
        "state": job.state,
        "progress": round(job.progress, 3),
        "note": job.note,
        "version": job.version,
        "error": error,
        "result": job.result if job.over else {},
        "pictures": len(job.pictures),
    }


def accepted(job: Job) -> JSONResponse:
    """Answer that work was queued."""
    return JSONResponse(told(job), status_code=202)


def picture(data: bytes) -> Response:
    """Answer with a picture."""
    return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg")
