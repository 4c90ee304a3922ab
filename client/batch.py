"""Many photos through one warm engine: a bad picture is reported, the others go on, Ctrl-C loses nothing finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.nn import functional

from client.console import Console, format_seconds
from client.engine import Engine
from client.explanation import check_free, encode, path_beside, summary
from client.marks import Marks
from client.outputs import Job
from client.recipe import Recipe
from shared_model.errors import EaselError, Interrupted, StorageError
from shared_model.files import write_atomic, write_new
from shared_model.head import Head
from shared_model.heic import SUFFIXES as HEIC_SUFFIXES
from shared_model.images import Picture, encode_picture, load_picture, to_tensor, to_uint8
from shared_model.stylize import Options, Watch

__all__ = ["Painter", "Tally", "paint_files"]


@dataclass(frozen=True)
class Painter:
    """An engine, a head and the recipe that goes into every picture.

    Attributes
    ----------
    explains
        Write explanations too.
    metadata
        Which tags of a photo its painting keeps; one of :data:`shared_model.tags.POLICIES`.
    marks
        By which a file's painting is known again.
    """

    engine: Engine
    head: Head
    recipe: Recipe
    explains: bool = False
    metadata: str = "safe"
    marks: Marks = field(default_factory=Marks)

    def paint(self, picture: Picture, *, watch: Watch = lambda share: None) -> Picture:
        """Paint one decoded picture; its transparency stays, and the tags that may.

        ``watch`` is told the share that is done between two steps; an error that it raises ends the painting.
        """
        painted = self.engine.stylize(to_tensor(picture.rgb), self.head, options=self.recipe.options, watch=watch)
        height, width = painted.shape[-2:]
        alpha = picture.alpha
        if alpha is not None and alpha.shape != (height, width):
            sized = functional.interpolate(
                torch.from_numpy(alpha)[None, None].float(), size=(height, width), mode="bilinear", antialias=True
            )
            alpha = sized.round().clamp(0, 255).to(torch.uint8).numpy()[0, 0]
        tags = None if picture.tags is None else picture.tags.allowed(self.metadata)
        return Picture(rgb=to_uint8(painted), alpha=alpha, tags=tags)

    def frame_options(self) -> Options:
        """Return the options for frames that have the size of the result already."""
        return replace(self.recipe.options, size_px=None)

    def settings(self, source: Path | None) -> dict[str, object]:
        """Return what a painting says of itself: the recipe, and the mark of ``source`` where its data may be kept."""
        mark = {} if source is None or self.metadata == "none" else self.marks.of(source)
        return self.recipe.to_settings() | mark

    def encode(self, picture: Picture, *, suffix: str, source: Path | None = None) -> bytes:
        """Return the picture file with :meth:`settings` inside."""
        settings = self.settings(source)
        return encode_picture(picture.rgb, suffix=suffix, alpha=picture.alpha, settings=settings, tags=picture.tags)

    def explanation(self, picture: Picture, target: Path) -> tuple[bytes, dict[str, object]]:
        """Return the picture that explains the painting ``target`` of ``picture``, and its facts.

        Raises
        ------
        InputError
            If something else has its name; see :func:`client.explanation.check_free`.
        """
        path = path_beside(target)
        check_free(path)
        made = self.engine.explain(to_tensor(picture.rgb), self.head, options=self.recipe.options)
        return encode(made, self.head, self.recipe.to_settings()), {"path": str(path), **made.facts()}


@dataclass
class Tally:
    """What became of each photo.

    Attributes
    ----------
    results
        One mapping a photo: ``input``, ``output``, ``status`` (``painted``, ``skipped`` or ``failed``) and facts.
    exit_code
        0, or that of the first failure.
    """

    results: list[dict[str, object]] = field(default_factory=list)
    exit_code: int = 0

    def add(self, job: Job, status: str, facts: dict[str, object]) -> None:
        """Note one photo."""
        self.results.append({"input": str(job.source), "output": str(job.target), "status": status, **facts})

    def count(self, status: str) -> int:
        """Return how many photos ended so."""
        return sum(result["status"] == status for result in self.results)


def paint_files(
    jobs: Sequence[Job],
    *,
    painter: Painter,
    console: Console,
    tally: Tally | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Paint every job that is not done yet, into ``tally`` (default: a new one), which is returned.

    Raises
    ------
    Interrupted
        On Ctrl-C; pictures finished before stay.
    StorageError
        If a painting cannot be written; painting the rest would only fail again.
    """
    tally = Tally() if tally is None else tally
    try:
        with console.progress("painting" if len(jobs) > 1 else "") as advance:
            for number, job in enumerate(jobs):
                advance(number / len(jobs), job.source.name)
                _paint_file(job, painter=painter, console=console, tally=tally, clock=clock)
            advance(1.0, "")
    except KeyboardInterrupt as stop:
        finished = tally.count("painted") + tally.count("skipped")
        raise Interrupted(
            f"stopped: {finished} of {len(jobs)} pictures are finished",
            hint="run the same command again to go on; finished pictures are left alone",
        ) from stop
    return tally


def _paint_file(job: Job, *, painter: Painter, console: Console, tally: Tally, clock: Callable[[], float]) -> None:
    if job.done and not (painter.explains and not path_beside(job.target).exists()):
        tally.add(job, "skipped", {})
        console.say(f"{job.target} is there already, painted with the same settings")
        return
    begin = clock()
    try:
        photo = load_picture(job.source)
        if photo.more:
            which = "main one" if job.source.suffix.lower() in HEIC_SUFFIXES else "first"
            console.warn(f"{job.source} holds several pictures; only the {which} is painted")
        explained = painter.explanation(photo, job.target) if painter.explains else None
        painted = painter.paint(photo)
        data = painter.encode(painted, suffix=job.target.suffix, source=job.source)
    except StorageError:
        raise
    except EaselError as error:
        tally.exit_code = tally.exit_code or error.exit_code
        tally.add(job, "failed", {"error": error.message, "hint": error.hint})
        console.error(error, subject="" if str(job.source) in error.message else str(job.source))
        return
    target = job.settle(lambda path, over: bool(write_atomic(path, data)) if over else write_new(path, data))
    job = replace(job, target=target)
    height, width = painted.rgb.shape[:2]
    facts: dict[str, object] = {"width": width, "height": height}
    if explained is not None:
        picture, told = explained
        facts["explanation"] = told | {"path": str(path_beside(target))}
        write_atomic(path_beside(target), picture)
    seconds = clock() - begin
    tally.add(job, "painted", facts | {"seconds": round(seconds, 3)})
    console.say(f"{target}  {width} x {height}, {format_seconds(seconds)}")
    if explained is not None:
        console.say(f"{path_beside(target)}  {summary(explained[1])}")
