"""What the studio's page can look at and put away: photos, heads, the history, the privacy ledger."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from client.atelier import MAX_STYLES, Atelier
from client.gallery import Painting
from client.studio.answers import accepted, picture, threaded
from client.studio.bench import MAX_LEARN_S, Bench
from client.studio.facts import privacy_facts
from client.studio.fleet import Application, Fleet
from client.studio.intake import MAX_UPLOAD_BYTES, file_name, read_json, read_upload, text
from client.studio.jobs import Job, Jobs
from easel import __version__
from shared_model.errors import InputError

__all__ = ["Desk"]


class Desk:
    """Answers the page.

    Parameters
    ----------
    atelier
        Does the work.
    jobs
        Where work that takes a while is queued.
    fleet
        Joins and leaves; default: with the owner's device folder.
    """

    def __init__(self, atelier: Atelier, *, jobs: Jobs, fleet: Fleet | None = None) -> None:
        self.atelier, self.jobs = atelier, jobs
        self.bench = Bench(atelier, jobs=jobs)
        self.fleet = fleet or Fleet(atelier.home.device_folder)
        self._decoding = anyio.CapacityLimiter(2)  # large photos at once: memory

    def routes(self) -> list[Route]:
        """Return every address below ``/api`` but the session's."""
        table = [
            ("GET", "/api/state", self.state),
            ("GET", "/api/privacy", self.privacy),
            ("POST", "/api/fleet", self.join_fleet),
            ("DELETE", "/api/fleet", self.leave_fleet),
            ("POST", "/api/fleet/part", self.take_part),
            ("POST", "/api/photos", self.add_photo),
            ("GET", "/api/photos/{id}", self.photo),
            ("GET", "/api/photos/{id}/view", self.photo_view),
            ("POST", "/api/samples/{number:int}", self.add_sample),
            ("GET", "/api/samples/{number:int}", self.sample_view),
            ("GET", "/api/heads", self.heads),
            ("GET", "/api/heads/{head}/view", self.head_view),
            ("DELETE", "/api/heads/{head}", self.delete_head),
            ("GET", "/api/paintings", self.paintings),
            ("GET", "/api/paintings/{id}/file", self.painting_file),
            ("GET", "/api/paintings/{id}/view", self.painting_view),
            ("POST", "/api/paintings/{id}", self.keep_painting),
            ("DELETE", "/api/paintings/{id}", self.delete_painting),
            ("DELETE", "/api/everything", self.clear),
        ]
        return [Route(path, answer, methods=[method]) for method, path, answer in table] + self.bench.routes()

    async def state(self, request: Request) -> Response:
        """Return what the page needs first."""
        return JSONResponse(
            {
                "version": __version__,
                "device": str(self.atelier.engine.plan.device),
                "samples": self.atelier.samples(),
                "heads": await threaded(self._heads),
                "limits": {"upload_bytes": MAX_UPLOAD_BYTES, "styles": MAX_STYLES, "learn_s": MAX_LEARN_S},
            }
        )

    async def privacy(self, request: Request) -> Response:
        """Return the ledger in plain words, what is stored, and whether this device takes part in a fleet."""
        folder = self.atelier.home.device_folder
        facts = await threaded(privacy_facts, folder)
        stored = {"folder": str(self.atelier.gallery.folder), **await self._stored()}
        return JSONResponse({**facts, "fleet": await threaded(self.fleet.facts), "stored": stored})

    async def join_fleet(self, request: Request) -> Response:
        """Join a fleet with a one-time code."""
        asked = await read_json(request)
        epsilon = asked.get("max_epsilon")
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float):
            raise InputError("the privacy budget is no number", hint="8 is the usual one; less gives away less")
        words = {key: text(asked, key, most=1000) for key in ("server", "code", "photos", "art")}
        application = Application(**words, max_epsilon=float(epsilon))
        application.arguments()

        def work(job: Job) -> None:
            job.result = self.fleet.join(application)

        return accepted(self.jobs.submit("fleet", work))

    async def leave_fleet(self, request: Request) -> Response:
        """Leave the fleet; the privacy ledger stays."""

        def work(job: Job) -> None:
            job.result = self.fleet.leave()

        return accepted(self.jobs.submit("fleet", work))

    async def take_part(self, request: Request) -> Response:
        """Take part while the studio is open, or no longer."""
        wanted = (await read_json(request)).get("on")
        if not isinstance(wanted, bool):
            raise InputError("on must be true or false", hint="reload the page")

        def work(job: Job) -> None:
            (self.fleet.take_part if wanted else self.fleet.rest)()

        return accepted(self.jobs.submit("fleet", work))

    async def add_photo(self, request: Request) -> Response:
        """Take a photo in."""
        name = file_name(request)
        async with self._decoding:  # the bytes too are only read when their turn has come
            data = await read_upload(request)
            return JSONResponse(await threaded(functools.partial(self.atelier.receive, name=name), data), 201)

    async def photo(self, request: Request) -> Response:
        """Return what is known of a photo."""
        name = request.path_params["id"]
        facts = await threaded(self.atelier.gallery.photo_facts, name)
        return JSONResponse({"id": name, **facts})

    async def photo_view(self, request: Request) -> Response:
        """Return a photo at the page's size."""
        small = "small" in request.query_params
        make = functools.partial(self.atelier.view, request.path_params["id"], thumbnail=small)
        async with self._decoding:
            return picture(await threaded(make))

    async def add_sample(self, request: Request) -> Response:
        """Take in a photo that easel brings along."""
        return JSONResponse(await threaded(self.atelier.sample, request.path_params["number"]), 201)

    async def sample_view(self, request: Request) -> Response:
        """Return a small copy of such a photo."""
        return picture(await threaded(self.atelier.sample_view, request.path_params["number"]))

    async def heads(self, request: Request) -> Response:
        """List what can be painted with."""
        return JSONResponse({"heads": await threaded(self._heads)})

    async def head_view(self, request: Request) -> Response:
        """Return what a head makes of a sample photo."""
        return picture(await threaded(self.atelier.head_view, request.path_params["head"]))

    async def delete_head(self, request: Request) -> Response:
        """Delete an own head or a style; with ``?paintings`` also what was painted with it."""
        paintings = "paintings" in request.query_params
        delete = functools.partial(self.atelier.delete_head, request.path_params["head"], paintings=paintings)
        await threaded(delete)
        return JSONResponse({"heads": await threaded(self._heads)})

    async def paintings(self, request: Request) -> Response:
        """Return the history."""
        paintings = await threaded(self.atelier.gallery.paintings)
        listed = [{**dataclasses.asdict(one), "photo_there": self._has_photo(one)} for one in paintings]
        return JSONResponse({"paintings": listed, "stored": await self._stored()})

    async def painting_file(self, request: Request) -> Response:
        """Return a painting as it is downloaded: PNG, settings inside."""
        return picture(await threaded(self.atelier.gallery.picture, request.path_params["id"]))

    async def painting_view(self, request: Request) -> Response:
        """Return a small copy of a painting."""
        read = functools.partial(self.atelier.gallery.picture, request.path_params["id"], thumbnail=True)
        return picture(await threaded(read))

    async def keep_painting(self, request: Request) -> Response:
        """Keep a painting from being dropped to make room, or no longer."""
        kept = (await read_json(request)).get("kept")
        if not isinstance(kept, bool):
            raise InputError("kept must be true or false", hint="reload the page")
        keep = functools.partial(self.atelier.gallery.keep, request.path_params["id"], kept=kept)
        return JSONResponse(dataclasses.asdict(await threaded(keep)))

    async def delete_painting(self, request: Request) -> Response:
        """Delete a painting for good."""
        await threaded(self.atelier.gallery.delete_painting, request.path_params["id"])
        return JSONResponse({"stored": await self._stored()})

    async def clear(self, request: Request) -> Response:
        """Delete all photos, styles and paintings of the studio; heads stay."""
        self.atelier.forget()
        await threaded(self.atelier.gallery.clear)
        return JSONResponse({"stored": await self._stored()})

    def _heads(self) -> list[dict[str, Any]]:
        return [{**head, "usual": self.bench.tasting.usual(head["id"])} for head in self.atelier.heads()]

    async def _stored(self) -> dict[str, int]:
        gallery = self.atelier.gallery
        return {"bytes": await threaded(gallery.size_bytes), "cap_bytes": gallery.cap_bytes}

    def _has_photo(self, painting: Painting) -> bool:
        return self.atelier.gallery.has_photo(painting.photo)
