"""What the painter on this device does for others that ask it: one warm engine, and the owner's heads.

Bytes in, bytes out, as :class:`client.jobs.Job` s that can be followed, cancelled and dropped between two stages. It
knows no network: :mod:`client.daemon` does the talking.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from client.batch import Painter
from client.commissions import FORMATS, Commission, HeadFacts, Lesson, Made, Painted
from client.engine import Engine
from client.jobs import Job
from client.personalize import MAX_PHOTOS, MAX_STYLES, Patience, personalize
from client.store import HeadFile, Home
from client.tasting import Tasting
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.errors import EaselError, InputError, MissingError, PictureError
from shared_model.images import Picture, load_picture, resize_short, to_tensor
from shared_model.stylize import Options, check_match
from shared_model.weights import backbone_id

__all__ = ["MAX_PIXELS", "WarmPainter"]

MAX_PIXELS = 50_000_000
_KEPT = 8  # heads


class WarmPainter:
    """An engine that stays warm, and the home it takes heads from.

    Parameters
    ----------
    home
        The owner's.
    backbone
        The hand; copied.
    device, precision
        See :func:`client.engine.plan`.
    max_pixels
        Of a photo, read from its header before decoding, and of a result.
    clock
        Seconds.
    """

    def __init__(
        self,
        home: Home,
        *,
        backbone: Backbone,
        device: str = "auto",
        precision: str = "auto",
        max_pixels: int = MAX_PIXELS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.home = home
        self.tasting = Tasting(home)
        self.max_pixels = max_pixels
        self.backbone = backbone_id(backbone)
        self.engine = Engine(backbone, device=device, precision=precision)
        self._teacher = backbone  # tuning has its own copy, so that it can go on beside painting
        self._clock = clock
        self._painters: OrderedDict[tuple[object, ...], Painter] = OrderedDict()
        self._lock = threading.Lock()

    def stylize(self, job: Job, photo: bytes, *, commission: Commission) -> Painted:
        """Paint one photo.

        Raises
        ------
        DroppedError
            If nobody waits for it any more.
        MissingError, CompatibilityError, StorageError
            If there is no such head, or it cannot be used.
        InputError, PictureError
            If photo or options cannot be used.
        """
        begin = self._clock()
        job.report("reading", 0.0)
        painter = self._painter(commission)
        picture = load_picture(photo, max_pixels=self.max_pixels)
        self._check_size(picture, painter.recipe.options)
        job.report("painting", 0.1)
        painted = painter.paint(picture, watch=lambda share: job.report("painting", 0.1 + 0.75 * share))
        job.report("writing", 0.85)
        data = painter.encode(painted, suffix=FORMATS[commission.format])
        height, width = painted.rgb.shape[:2]
        settings = json.dumps(painter.recipe.to_settings(), sort_keys=True)
        kind = FORMATS[commission.format].removeprefix(".")
        return Painted(data, width, height, kind, settings, self._clock() - begin)

    def personalize(self, job: Job, styles: Sequence[bytes], photos: Sequence[bytes], *, lesson: Lesson) -> Made:
        """Make a head and save it; one that nobody waits for any more is not saved.

        Raises
        ------
        DroppedError
            If nobody waits for it any more.
        InputError, PictureError
            If the name is taken, or no picture can be used.
        StorageError
            If it cannot be saved.
        """
        job.report("reading", 0.0)
        self.home.check_free(lesson.name, overwrite=lesson.overwrite)
        self.home.prepare()
        read, skipped = self._pictures(styles, limit=MAX_STYLES, job=job)
        practice, unread = self._pictures(photos, limit=MAX_PHOTOS, job=job) if photos else (None, 0)
        job.report("fitting", 0.05)
        made = personalize(
            read,
            backbone=self._teacher,
            name=lesson.name,
            photos=practice,
            budget_s=lesson.budget_s,
            seed=lesson.seed,
            strokes=lesson.strokes,
            patience=_Watched(self._clock, job),
            progress=lambda fraction, loss: job.report("tuning", 0.1 + 0.85 * min(fraction, 1.0), loss=loss),
        )
        job.check()
        file = self.home.save_head(made.head, name=lesson.name, overwrite=lesson.overwrite)
        return Made(self.facts(file), made.before, made.after, made.seconds, skipped + unread)

    def heads(self) -> list[HeadFacts]:
        """Tell about all heads, own ones first."""
        return [self.facts(file) for file in self.home.heads()]

    def facts(self, file: HeadFile) -> HeadFacts:
        """Tell about one head, damaged or not."""
        try:
            head = file.load()
        except EaselError as error:
            return HeadFacts(file.name, file.shipped, file.size_bytes, damage=error.message)
        matches = head.backbone == self.backbone
        return HeadFacts(
            file.name, file.shipped, file.size_bytes, head.images, head.created or "", head.backbone, matches=matches
        )

    def _painter(self, commission: Commission) -> Painter:
        """Return who paints a commission, from memory if the heads' files are the same as last time."""
        order = commission.order(self.home)
        key = (order.heads, order.look, *(self._mark(name) for name, _ in order.heads))
        with self._lock:
            painter = self._painters.get(key)
            if painter is None:
                head, recipe = order.load(self.home)
                check_match(head, self._teacher)
                painter = self._painters[key] = Painter(self.engine, head, recipe)
                while len(self._painters) > _KEPT:
                    self._painters.popitem(last=False)
            self._painters.move_to_end(key)
        return replace(painter, recipe=replace(painter.recipe, options=order.options))

    def _mark(self, name: str) -> tuple[object, ...]:
        """Return what changes when the file of a head does."""
        file = self.home.find(name)
        try:
            known = file.path.stat()
        except FileNotFoundError as error:
            raise MissingError(f"no head called {name!r}", hint="it was deleted just now") from error
        return (file.path, known.st_ino, known.st_mtime_ns, known.st_size)

    def _check_size(self, picture: Picture, options: Options) -> None:
        """Refuse a result that is too large before it takes any memory."""
        if options.size_px is not None:
            height, width = picture.rgb.shape[:2]
            scale = options.size_px / min(width, height)
            if width * scale * height * scale > self.max_pixels:
                raise InputError(
                    f"a result of {width * scale:.0f} x {height * scale:.0f} pixels is too large",
                    hint=f"ask for at most {self.max_pixels:,} pixels",
                )

    def _pictures(self, files: Sequence[bytes], *, limit: int, job: Job) -> tuple[list[Tensor], int]:
        """Read pictures at the size heads work at; returns them and how many could not be read."""
        if len(files) > limit:
            raise InputError(f"{len(files)} pictures are too many", hint=f"send at most {limit}")
        if not files:
            raise InputError("a head needs at least one picture", hint="send one to ten that you like")
        pictures: list[Tensor] = []
        canvas_px = HeadConfig().canvas_px
        first: PictureError | None = None
        for file in files:
            job.check()
            try:
                picture = load_picture(file, max_pixels=self.max_pixels)
            except PictureError as error:
                first = first or error
            else:
                pictures.append(resize_short(_on_white(picture), canvas_px))
        if first is not None and not pictures:
            raise first
        return pictures, len(files) - len(pictures)


class _Watched(Patience):
    """A clock that runs out as soon as nobody waits for the result any more."""

    def __init__(self, clock: Callable[[], float], job: Job) -> None:
        self._job = job
        super().__init__(clock)

    @property
    def stopped(self) -> bool:
        """Whether it has run out."""
        return bool(self._job.dropped)

    @stopped.setter
    def stopped(self, value: bool) -> None:
        if value:
            self._job.cancel()


def _on_white(picture: Picture) -> Tensor:
    """Return ``(1, 3, H, W) float32 in [0, 1]``, what is transparent on white."""
    x = to_tensor(picture.rgb)
    if picture.alpha is None:
        return x
    return torch.lerp(torch.ones_like(x), x, torch.from_numpy(picture.alpha)[None, None].float() / 255)
