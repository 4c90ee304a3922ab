"""What takes a while on the studio's page: painting, learning, explaining, choosing; queued, followed, stopped."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from client.atelier import Atelier
from client.personalize import Patience, check_strokes
from client.studio.answers import accepted, picture, threaded, told
from client.studio.intake import look_of, manners_of, options_of, read_json, text, texts
from client.studio.jobs import Job, Jobs
from client.tasting import Tasting, painted_like
from shared_model.errors import InputError, MissingError
from shared_model.look import Look
from shared_model.stylize import Options

__all__ = ["MAX_LEARN_S", "Bench"]

MAX_LEARN_S = 900.0
_CANDIDATE_PX = 800
_POLL_S, _LONGEST_POLL_S = 0.03, 10.0


class Bench:
    """Takes orders for work; see :class:`client.studio.desk.Desk` for its parameters."""

    def __init__(self, atelier: Atelier, *, jobs: Jobs) -> None:
        self.atelier, self.jobs = atelier, jobs
        self.tasting = Tasting(atelier.home)

    def routes(self) -> list[Route]:
        """Return the addresses of work and of choices."""
        table = [
            ("POST", "/api/heads", self.learn),
            ("POST", "/api/styles", self.style),
            ("POST", "/api/preview", self.preview),
            ("POST", "/api/paint", self.paint),
            ("POST", "/api/explain", self.explain),
            ("POST", "/api/candidates", self.candidates),
            ("POST", "/api/choices", self.choose),
            ("GET", "/api/choices/{head}", self.choices),
            ("POST", "/api/choices/{head}", self.apply_choices),
            ("DELETE", "/api/choices/{head}", self.forget_choices),
            ("GET", "/api/jobs/{id}", self.job),
            ("GET", "/api/jobs/{id}/picture", self.job_picture),
            ("DELETE", "/api/jobs/{id}", self.stop_job),
        ]
        return [Route(path, answer, methods=[method]) for method, path, answer in table]

    async def style(self, request: Request) -> Response:
        """Make a style from pictures, right away."""
        pictures = texts(await read_json(request), "pictures")

        def work(job: Job) -> None:
            job.result = {"head": self.atelier.style(pictures)}

        return accepted(self.jobs.submit("preview", work))

    async def learn(self, request: Request) -> Response:
        """Make a head of the owner's own."""
        asked = await read_json(request)
        pictures, name, seconds = texts(asked, "pictures"), text(asked, "name"), asked.get("seconds", 20)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_LEARN_S:
            raise InputError(f"learning takes 0 to {MAX_LEARN_S:g} seconds", hint="easel personalize has no such limit")
        strokes = text(asked, "strokes", missing="fine")
        check_strokes(strokes)
        self.atelier.home.check_free(name)

        def work(job: Job) -> None:
            patience = Patience()
            job.on_stop(patience.stop)
            job.advance(0.0, "getting ready")
            follow = functools.partial(job.advance, note="practicing")
            saved = self.atelier.learn(
                pictures,
                name=name,
                budget_s=float(seconds),
                strokes=strokes,
                patience=patience,
                progress=follow,
            )
            job.result = {"head": saved.name, "stopped": patience.stopped, "size_bytes": saved.size_bytes}

        return accepted(self.jobs.submit("learn", work))

    async def preview(self, request: Request) -> Response:
        """Paint at the page's size; of several waiting ones of one tab only the last."""
        asked = await read_json(request)
        photo, head, options, look = _order(asked)

        def work(job: Job) -> None:
            begin = time.monotonic()
            job.pictures = [self.atelier.preview(photo, head, options=options, look=look)]
            job.result = {"seconds": round(time.monotonic() - begin, 2)}

        return accepted(self.jobs.submit("preview", work, key=text(asked, "tab", missing="")))

    async def paint(self, request: Request) -> Response:
        """Paint in full, into the history."""
        asked = await read_json(request)
        photo, head, options, look = _order(asked)

        def work(job: Job) -> None:
            painted = self.atelier.paint(photo, head, options=options, look=look, watch=job.watch)
            job.result = dataclasses.asdict(painted)

        return accepted(self.jobs.submit("paint", work, key=text(asked, "tab", missing="")))

    async def explain(self, request: Request) -> Response:
        """Say which stroke is from which picture."""
        asked = await read_json(request)
        photo, head, options, look = _order(asked)

        def work(job: Job) -> None:
            made = self.atelier.explain(photo, head, options=options, look=look)
            job.pictures, job.result = [made.map], made.facts

        return accepted(self.jobs.submit("preview", work))

    async def candidates(self, request: Request) -> Response:
        """Paint what the owner is to choose from, one after the other."""
        asked = await read_json(request)
        photo, head, options, _ = _order(asked)
        partner = text(asked, "partner") if "partner" in asked else None  # not told: as before

        def work(job: Job) -> None:
            known, shown = self.tasting.candidates(head, partner=partner)
            told = self.tasting.facts(head) | {"partner": known.partner}  # of what is shown, not of another tab
            job.result = {"shown": [dataclasses.asdict(one) for one in shown], **told}
            for number, manner in enumerate(shown):
                if job.stop_asked:
                    return
                whole, changed, look = painted_like(manner, options, head=head, partner=known.partner)
                job.pictures.append(
                    self.atelier.preview(photo, whole, options=changed, look=look, longest_px=_CANDIDATE_PX)
                )
                job.advance((number + 1) / len(shown))

        return accepted(self.jobs.submit("preview", work))

    async def choose(self, request: Request) -> Response:
        """Take in which candidates the owner likes, best first."""
        asked = await read_json(request)
        head, shown, order = text(asked, "head"), manners_of(asked), asked.get("order")
        if not isinstance(order, list) or not all(type(one) is int for one in order):
            raise InputError("order is missing or is no list of numbers", hint="reload the page")
        partner = text(asked, "partner") if "partner" in asked else ""
        take = functools.partial(self.tasting.choose, head, shown, tuple(order), partner=partner)
        return JSONResponse(await threaded(take))

    async def choices(self, request: Request) -> Response:
        """Return what is known of the owner's taste for a head."""
        return JSONResponse(await threaded(self.tasting.facts, request.path_params["head"]))

    async def apply_choices(self, request: Request) -> Response:
        """Let paintings with a head start from what its owner likes."""
        return JSONResponse(await threaded(self.tasting.apply, request.path_params["head"]))

    async def forget_choices(self, request: Request) -> Response:
        """Forget what is known of the owner's taste for a head."""
        return JSONResponse(await threaded(self.tasting.forget, request.path_params["head"]))

    async def job(self, request: Request) -> Response:
        """Tell how far a job is; ``?since=VERSION`` waits a while until that has changed."""
        job = self._job(request)
        since = request.query_params.get("since", "")
        until = time.monotonic() + _LONGEST_POLL_S
        while since == str(job.version) and not job.over and time.monotonic() < until:
            await anyio.sleep(_POLL_S)
        return JSONResponse(told(job))

    async def job_picture(self, request: Request) -> Response:
        """Return a picture that a job made: the first, or ``?number=N``."""
        number = request.query_params.get("number", "0")
        pictures = self._job(request).pictures
        if not number.isdecimal() or len(number) > 3 or int(number) >= len(pictures):
            raise MissingError("there is no picture yet", hint="wait for it")
        return picture(pictures[int(number)])

    async def stop_job(self, request: Request) -> Response:
        """End a job early."""
        self._job(request)
        self.jobs.stop(request.path_params["id"])
        return JSONResponse({})

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise MissingError("this work is not known any more", hint="start it again")
        return job


def _order(asked: dict[str, Any]) -> tuple[str, str, Options, Look]:
    return text(asked, "photo"), text(asked, "head", most=1000), options_of(asked), look_of(asked)
