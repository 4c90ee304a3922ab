"""The service that paints and learns: streams in, a job in its turn, streams out."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

from client.commissions import Commission, Lesson
from client.daemon.catalog import head_message
from client.daemon.replies import answers
from client.daemon.uploads import Download, Settings, Upload
from client.job_queue import JobQueue, Ticket
from client.jobs import Job, News
from client.personalize import MAX_PHOTOS, MAX_STYLES
from client.warm_painter import WarmPainter
from protos import studio_pb2 as pb
from protos import studio_pb2_grpc
from shared_model.errors import InputError

__all__ = ["PainterService", "client_of"]


class PainterService(studio_pb2_grpc.PainterServicer):
    """``easel.studio.v1.Painter``: see ``protos/studio.proto`` for what it promises.

    Parameters
    ----------
    atelier
        Does the work.
    painting, learning
        The queues; each has a worker of its own, so that a head that is learned does not hold up pictures.
    settings
        What is allowed.
    """

    def __init__(self, atelier: WarmPainter, *, painting: JobQueue, learning: JobQueue, settings: Settings) -> None:
        self._atelier = atelier
        self._painting = painting
        self._learning = learning
        self._settings = settings

    @answers
    async def Stylize(self, requests: object, context: Any) -> None:
        """Paint one photo."""
        upload = Upload(context, self._settings)
        commission = _commission(start := await upload.start())
        upload.expect(start.size_bytes)
        await asyncio.to_thread(commission.check, self._atelier.home)
        with self._painting.admit(client_of(context)) as ticket:
            photo, kind, _ = await upload.file(ticket)
            if kind != "end":
                raise InputError(f"a photo comes in `chunk`s, not in `{kind}`")
            down = Download(context, pb.StylizeReply, self._settings)
            painted = await self._done(
                context,
                ticket,
                lambda job: self._atelier.stylize(job, photo, commission=commission),
                queue=self._painting,
                down=down,
            )
            await down.send(
                result=pb.Painting(
                    width=painted.width,
                    height=painted.height,
                    size_bytes=len(painted.data),
                    format=painted.format,
                    seconds=painted.seconds,
                    settings=painted.settings,
                )
            )
            await down.file(painted.data)

    @answers
    async def Personalize(self, requests: object, context: Any) -> None:
        """Make and save one head."""
        upload = Upload(context, self._settings)
        lesson = _lesson(await upload.start())
        await asyncio.to_thread(self._atelier.home.check_free, lesson.name, overwrite=lesson.overwrite)
        with self._learning.admit(client_of(context)) as ticket:
            styles, photos = await _pictures(upload, ticket)
            down = Download(context, pb.PersonalizeReply, self._settings)
            made = await self._done(
                context,
                ticket,
                lambda job: self._atelier.personalize(job, styles, photos, lesson=lesson),
                queue=self._learning,
                down=down,
            )
            tuned = math.isfinite(made.before)
            await down.send(
                made=pb.Made(
                    head=head_message(made.head),
                    loss_before=made.before if tuned else None,
                    loss_after=made.after if tuned else None,
                    seconds=made.seconds,
                    skipped=made.skipped,
                )
            )

    async def _done(
        self, context: Any, ticket: Ticket, work: Callable[[Job], Any], *, queue: JobQueue, down: Download
    ) -> Any:
        """Wait for one's turn and the result, and pass the news on."""
        relay = _Relay()
        left = context.time_remaining()
        deadline = None if left is None else queue.clock() + left
        job = Job(ticket.client, work, tell=relay.tell, deadline=deadline, clock=queue.clock)
        ticket.submit(job)
        async for news in relay.follow(job):
            stage: Any = news.stage.upper()
            await down.send(progress=pb.Progress(stage=stage, fraction=news.fraction, ahead=news.ahead, loss=news.loss))
        return job.result.result()


class _Relay:
    """Brings a job's news from its thread to the event loop; only the latest counts."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._latest: News | None = None

    def tell(self, news: News) -> None:
        """Take news, in any thread."""
        self._latest = news
        self._wake()

    async def follow(self, job: Job) -> AsyncIterator[News]:
        """Yield the news until the job is done."""
        job.result.add_done_callback(lambda _: self._wake())
        while True:
            await self._changed.wait()
            self._changed.clear()
            done = job.result.done()
            latest, self._latest = self._latest, None
            if latest is not None:
                yield latest
            if done:
                return

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._changed.set)


def client_of(context: Any) -> str:
    """Return who calls: the name that it gives itself, else its connection."""
    for key, value in context.invocation_metadata() or ():
        if key == "easel-client" and isinstance(value, str) and value:
            return f"client {value[:64]}"
    return str(context.peer())


def _commission(start: Any) -> Commission:
    if bool(start.head) == bool(start.mix):
        raise InputError(
            "which head? exactly one of `head` and `mix` is needed", hint="Heads.List tells which there are"
        )
    heads = tuple(start.mix.items()) or ((start.head, 1.0),)
    options = start.options
    optional = ("strength", "detail", "keep_color", "size_px", "brush", "roughness", "hand")
    given = {key: getattr(options, key) for key in optional if options.HasField(key)}
    return Commission(heads, {**given, "seed": options.seed}, start.format.lower(), options.plain)


def _lesson(start: Any) -> Lesson:
    budget = {"budget_s": start.budget_seconds} if start.HasField("budget_seconds") else {}
    strokes = start.strokes or "fine"
    return Lesson(start.name, seed=start.seed, overwrite=start.overwrite, strokes=strokes, **budget)


async def _pictures(upload: Upload, ticket: Ticket) -> tuple[list[bytes], list[bytes]]:
    """Take the files of a lesson: pictures whose style is wanted, and photos to practise on."""
    files: dict[bool, list[bytes]] = {False: [], True: []}
    limits = {False: MAX_STYLES, True: MAX_PHOTOS}
    kind, value = await upload.next()
    while kind == "picture":
        practice = value.practice
        if len(files[practice]) == limits[practice]:
            raise InputError("too many pictures", hint=f"at most {MAX_STYLES}, and {MAX_PHOTOS} to practise on")
        file, kind, value = await upload.file(ticket)
        files[practice].append(file)
    if kind != "end":
        raise InputError(f"each file begins with `picture`, not with `{kind}`")
    return files[False], files[True]
