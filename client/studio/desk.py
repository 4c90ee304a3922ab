"""What the studio's page can ask for: each request is read, checked, handed to the atelier, and answered."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from client.atelier import MAX_STYLES, Atelier
from client.gallery import Painting
from client.personalize import Patience
from client.studio.facts import fleet_facts, privacy_facts
from client.studio.intake import MAX_UPLOAD_BYTES, file_name, options_of, read_json, read_upload
from client.studio.jobs import Job, Jobs
from easel import __version__
from shared_model.errors import InputError, MissingError

__all__ = ["Desk"]

MAX_LEARN_S = 900.0
_POLL_S, _LONGEST_POLL_S = 0.03, 10.0


class Desk:
    """Answers the page.

    Parameters
    ----------
    atelier
        Does the work.
    jobs
        Where work that takes a while is queued.
    """

    def __init__(self, atelier: Atelier, *, jobs: Jobs) -> None:
        self.atelier, self.jobs = atelier, jobs
        self._decoding = anyio.CapacityLimiter(2)  # large photos at once: memory

    def routes(self) -> list[Route]:
        """Return every address below ``/api`` but the session's."""
        table: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", "/api/state", self.state),
            ("GET", "/api/privacy", self.privacy),
            ("POST", "/api/photos", self.add_photo),
            ("GET", "/api/photos/{id}", self.photo),
            ("GET", "/api/photos/{id}/view", self.photo_view),
            ("POST", "/api/samples/{number:int}", self.add_sample),
            ("GET", "/api/samples/{number:int}", self.sample_view),
            ("GET", "/api/heads", self.heads),
            ("POST", "/api/heads", self.learn),
            ("POST", "/api/styles", self.style),
            ("GET", "/api/heads/{head}/view", self.head_view),
            ("DELETE", "/api/heads/{head}", self.delete_head),
            ("POST", "/api/preview", self.preview),
            ("POST", "/api/paint", self.paint),
            ("POST", "/api/explain", self.explain),
            ("GET", "/api/jobs/{id}", self.job),
            ("GET", "/api/jobs/{id}/picture", self.job_picture),
            ("DELETE", "/api/jobs/{id}", self.stop_job),
            ("GET", "/api/paintings", self.paintings),
            ("GET", "/api/paintings/{id}/file", self.painting_file),
            ("GET", "/api/paintings/{id}/view", self.painting_view),
            ("POST", "/api/paintings/{id}", self.keep_painting),
            ("DELETE", "/api/paintings/{id}", self.delete_painting),
            ("DELETE", "/api/everything", self.clear),
        ]
        return [Route(path, answer, methods=[method]) for method, path, answer in table]

    async def state(self, request: Request) -> Response:
        """Return what the page needs first."""
        return JSONResponse(
            {
                "version": __version__,
                "device": str(self.atelier.engine.plan.device),
                "samples": self.atelier.samples(),
                "heads": await _threaded(self.atelier.heads),
                "limits": {"upload_bytes": MAX_UPLOAD_BYTES, "styles": MAX_STYLES, "learn_s": MAX_LEARN_S},
            }
        )

    async def privacy(self, request: Request) -> Response:
        """Return the ledger in plain words, what is stored, and whether this device takes part in a fleet."""
        folder = self.atelier.home.device_folder
        facts = await _threaded(privacy_facts, folder)
        stored = {"folder": str(self.atelier.gallery.folder), **await self._stored()}
        return JSONResponse({**facts, "fleet": fleet_facts(folder), "stored": stored})

    async def add_photo(self, request: Request) -> Response:
        """Take a photo in."""
        name = file_name(request)
        async with self._decoding:  # the bytes too are only read when their turn has come
            data = await read_upload(request)
            return JSONResponse(await _threaded(functools.partial(self.atelier.receive, name=name), data), 201)

    async def photo(self, request: Request) -> Response:
        """Return what is known of a photo."""
        name = request.path_params["id"]
        facts = await _threaded(self.atelier.gallery.photo_facts, name)
        return JSONResponse({"id": name, **facts})

    async def photo_view(self, request: Request) -> Response:
        """Return a photo at the page's size."""
        small = "small" in request.query_params
        make = functools.partial(self.atelier.view, request.path_params["id"], thumbnail=small)
        async with self._decoding:
            return _picture(await _threaded(make))

    async def add_sample(self, request: Request) -> Response:
        """Take in a photo that easel brings along."""
        return JSONResponse(await _threaded(self.atelier.sample, request.path_params["number"]), 201)

    async def sample_view(self, request: Request) -> Response:
        """Return a small copy of such a photo."""
        return _picture(await _threaded(self.atelier.sample_view, request.path_params["number"]))

    async def heads(self, request: Request) -> Response:
        """List what can be painted with."""
        return JSONResponse({"heads": await _threaded(self.atelier.heads)})

    async def head_view(self, request: Request) -> Response:
        """Return what a head makes of a sample photo."""
        return _picture(await _threaded(self.atelier.head_view, request.path_params["head"]))

    async def delete_head(self, request: Request) -> Response:
        """Delete an own head or a style."""
        await _threaded(self.atelier.delete_head, request.path_params["head"])
        return JSONResponse({"heads": await _threaded(self.atelier.heads)})

    async def style(self, request: Request) -> Response:
        """Make a style from pictures, right away."""
        pictures = _texts(await read_json(request), "pictures")

        def work(job: Job) -> None:
            job.result = {"head": self.atelier.style(pictures)}

        return _accepted(self.jobs.submit("preview", work))

    async def learn(self, request: Request) -> Response:
        """Make a head of the owner's own."""
        asked = await read_json(request)
        pictures, name, seconds = _texts(asked, "pictures"), _text(asked, "name"), asked.get("seconds", 20)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_LEARN_S:
            raise InputError(f"learning takes 0 to {MAX_LEARN_S:g} seconds", hint="easel personalize has no such limit")
        self.atelier.home.check_free(name)

        def work(job: Job) -> None:
            patience = Patience()
            job.on_stop(patience.stop)
            saved = self.atelier.learn(
                pictures, name=name, budget_s=float(seconds), patience=patience, progress=job.advance
            )
            job.result = {"head": saved.name, "stopped": patience.stopped, "size_bytes": saved.size_bytes}

        return _accepted(self.jobs.submit("learn", work))

    async def preview(self, request: Request) -> Response:
        """Paint at the page's size; of several waiting ones of one tab only the last."""
        asked = await read_json(request)
        photo, head, options = _text(asked, "photo"), _text(asked, "head"), options_of(asked)

        def work(job: Job) -> None:
            begin = time.monotonic()
            job.picture = self.atelier.preview(photo, head, options=options)
            job.result = {"seconds": round(time.monotonic() - begin, 2)}

        return _accepted(self.jobs.submit("preview", work, key=_text(asked, "tab", missing="")))

    async def paint(self, request: Request) -> Response:
        """Paint in full, into the history."""
        asked = await read_json(request)
        photo, head, options = _text(asked, "photo"), _text(asked, "head"), options_of(asked)

        def work(job: Job) -> None:
            job.result = dataclasses.asdict(self.atelier.paint(photo, head, options=options))

        return _accepted(self.jobs.submit("paint", work, key=_text(asked, "tab", missing="")))

    async def explain(self, request: Request) -> Response:
        """Say which stroke is from which picture."""
        asked = await read_json(request)
        photo, head, options = _text(asked, "photo"), _text(asked, "head"), options_of(asked)

        def work(job: Job) -> None:
            made = self.atelier.explain(photo, head, options=options)
            job.picture, job.result = made.map, made.facts

        return _accepted(self.jobs.submit("preview", work))

    async def job(self, request: Request) -> Response:
        """Tell how far a job is; ``?since=VERSION`` waits a while until that has changed."""
        job = self._job(request)
        since = request.query_params.get("since", "")
        until = time.monotonic() + _LONGEST_POLL_S
        while since == str(job.version) and not job.over and time.monotonic() < until:
            await anyio.sleep(_POLL_S)
        return JSONResponse(_told(job))

    async def job_picture(self, request: Request) -> Response:
        """Return the picture that a job made."""
        job = self._job(request)
        if not job.picture:
            raise MissingError("there is no picture yet", hint="wait for it")
        return _picture(job.picture)

    async def stop_job(self, request: Request) -> Response:
        """End a job early."""
        self._job(request)
        self.jobs.stop(request.path_params["id"])
        return JSONResponse({})

    async def paintings(self, request: Request) -> Response:
        """Return the history."""
        paintings = await _threaded(self.atelier.gallery.paintings)
        listed = [{**dataclasses.asdict(one), "photo_there": self._has_photo(one)} for one in paintings]
        return JSONResponse({"paintings": listed, "stored": await self._stored()})

    async def painting_file(self, request: Request) -> Response:
        """Return a painting as it is downloaded: PNG, settings inside."""
        return _picture(await _threaded(self.atelier.gallery.picture, request.path_params["id"]))

    async def painting_view(self, request: Request) -> Response:
        """Return a small copy of a painting."""
        read = functools.partial(self.atelier.gallery.picture, request.path_params["id"], thumbnail=True)
        return _picture(await _threaded(read))

    async def keep_painting(self, request: Request) -> Response:
        """Keep a painting from being dropped to make room, or no longer."""
        kept = (await read_json(request)).get("kept")
        if not isinstance(kept, bool):
            raise InputError("kept must be true or false", hint="reload the page")
        keep = functools.partial(self.atelier.gallery.keep, request.path_params["id"], kept=kept)
        return JSONResponse(dataclasses.asdict(await _threaded(keep)))

    async def delete_painting(self, request: Request) -> Response:
        """Delete a painting for good."""
        await _threaded(self.atelier.gallery.delete_painting, request.path_params["id"])
        return JSONResponse({"stored": await self._stored()})

    async def clear(self, request: Request) -> Response:
        """Delete all photos, styles and paintings of the studio; heads stay."""
        self.atelier.forget()
        await _threaded(self.atelier.gallery.clear)
        return JSONResponse({"stored": await self._stored()})

    async def _stored(self) -> dict[str, int]:
        gallery = self.atelier.gallery
        return {"bytes": await _threaded(gallery.size_bytes), "cap_bytes": gallery.cap_bytes}

    def _has_photo(self, painting: Painting) -> bool:
        return self.atelier.gallery.has_photo(painting.photo)

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise MissingError("this work is not known any more", hint="start it again")
        return job


async def _threaded(call: Callable[..., Any], *arguments: Any) -> Any:
    return await to_thread.run_sync(call, *arguments)


def _told(job: Job) -> dict[str, Any]:
    error = None if job.error is None else {"message": job.error.message, "hint": job.error.hint}
    return {
        "id": job.id,
        "state": job.state,
        "progress": round(job.progress, 3),
        "note": job.note,
        "version": job.version,
        "error": error,
        "result": job.result if job.over else {},
        "picture": bool(job.picture) and job.over,
    }


def _accepted(job: Job) -> JSONResponse:
    return JSONResponse(_told(job), status_code=202)


def _picture(data: bytes) -> Response:
    return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg")


def _text(value: dict[str, Any], key: str, *, missing: str | None = None) -> str:
    found = value.get(key, missing)
    if not isinstance(found, str) or len(found) > 200:
        raise InputError(f"{key} is missing or is no short text", hint="reload the page")
    return found


def _texts(value: dict[str, Any], key: str) -> list[str]:
    found = value.get(key)
    if not isinstance(found, list) or len(found) > 100 or not all(isinstance(one, str) for one in found):
        raise InputError(f"{key} is missing or is no list of names", hint="reload the page")
    return found
