"""Making a head: an owner's pictures in, one private head out. Nothing here reaches the network."""

from __future__ import annotations

import contextlib
import datetime
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import STROKES, HeadConfig
from shared_model.errors import InputError, PictureError
from shared_model.head import Head
from shared_model.images import load_tensor
from shared_model.tuning import tune

__all__ = ["MAX_PHOTOS", "MAX_STYLES", "Patience", "Personalized", "load_pictures", "personalize", "stop_on_interrupt"]

MAX_STYLES = 64
MAX_PHOTOS = 24
MAX_BUDGET_S = 24 * 3600.0


@dataclass
class Patience:
    """A clock that can be told to run out, so that work under a time budget ends early with its best result.

    Attributes
    ----------
    clock
        The real clock, in seconds.
    stopped
        Whether it has run out.
    """

    clock: Callable[[], float] = time.monotonic
    stopped: bool = False

    def __call__(self) -> float:
        """Return the time; after :meth:`stop` a time past every budget."""
        return self.clock() + (2 * MAX_BUDGET_S if self.stopped else 0.0)

    def stop(self) -> None:
        """Run out."""
        self.stopped = True


@dataclass(frozen=True)
class Personalized:
    """A finished head and how it came about.

    Attributes
    ----------
    head
        The head.
    before, after
        Loss before tuning and of the result; ``nan`` where nothing was tuned.
    seconds
        Time taken.
    stopped
        The owner stopped it early; the head is the best so far.
    """

    head: Head
    before: float
    after: float
    seconds: float
    stopped: bool


def personalize(
    styles: Sequence[Tensor],
    *,
    backbone: Backbone,
    name: str,
    photos: Sequence[Tensor] | None = None,
    budget_s: float = 20.0,
    seed: int = 0,
    strokes: str = "fine",
    patience: Patience | None = None,
    progress: Callable[[float, float], None] | None = None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Personalized:
    """Fit a head to pictures and tune it for a while.

    Parameters
    ----------
    styles
        The owner's pictures, each ``(1, 3, H, W) float in [0, 1]``.
    backbone
        The backbone that the head will paint with.
    name
        What the owner calls it.
    photos
        Photos to practise on, same shape as ``styles``; default: those that easel brings along.
    budget_s
        Seconds of tuning, from 0 (fit only) to a day.
    seed
        Fixes everything random.
    strokes
        Which kind of head, of :data:`shared_model.config.STROKES`.
    patience
        The clock; when it is told to stop, tuning ends with the best so far.
    progress
        Called with the share of the budget used, in [0, 1], and the loss.
    now
        The time of day, for the head's date.

    Raises
    ------
    InputError
        If there is no picture, the budget is out of range or there are no such strokes.
    """
    check_budget(budget_s)
    check_strokes(strokes)
    patience = patience or Patience()
    begin = patience.clock()
    losses: list[float] = []

    def follow(fraction: float, loss: float) -> None:
        losses.append(loss)
        if progress is not None:
            progress(fraction, loss)

    created = now().replace(microsecond=0).isoformat()
    head = Head.fit(styles, backbone=backbone, name=name, config=STROKES[strokes], seed=seed, created=created)
    if budget_s > 0 and not patience.stopped:
        head = tune(
            head,
            styles,
            backbone=backbone,
            photos=photos,
            budget_s=budget_s,
            seed=seed,
            clock=patience,
            progress=follow,
        )
    return Personalized(
        head=replace(head, name=name),
        before=losses[0] if losses else float("nan"),
        after=losses[-1] if losses else float("nan"),
        seconds=patience.clock() - begin,
        stopped=patience.stopped,
    )


def check_budget(budget_s: float) -> None:
    """Refuse a tuning time that is no number from 0 to a day.

    Raises
    ------
    InputError
        If it is out of range.
    """
    if not 0 <= budget_s <= MAX_BUDGET_S:
        raise InputError(f"a budget of {budget_s:g} seconds makes no sense", hint="use 0 to 86400, such as 20")


def check_strokes(strokes: str) -> None:
    """Refuse a kind of head that there is not.

    Raises
    ------
    InputError
        If it is none of :data:`shared_model.config.STROKES`.
    """
    if strokes not in STROKES:
        *first, last = STROKES
        raise InputError(f"strokes must be {', '.join(first)} or {last}, not {strokes!r}")


def load_pictures(
    paths: Sequence[Path], *, limit: int, warn: Callable[[PictureError], None]
) -> tuple[list[Tensor], list[Path]]:
    """Read pictures at the size heads work at, at most ``limit`` of them, spread evenly; bad ones are told to ``warn``.

    Returns
    -------
    tuple
        The pictures, each ``(1, 3, H, W) float32 in [0, 1]``, and the files they came from.

    Raises
    ------
    PictureError
        If none can be read: the error of the first.
    """
    short_px = HeadConfig().canvas_px
    chosen = [paths[i * len(paths) // limit] for i in range(limit)] if len(paths) > limit else list(paths)
    pictures: list[Tensor] = []
    read: list[Path] = []
    errors: list[PictureError] = []
    for path in chosen:
        try:
            pictures.append(load_tensor(path, short_px))
            read.append(path)
        except PictureError as error:
            errors.append(error)
    if not pictures:
        raise errors[0]
    for failure in errors:
        warn(failure)
    return pictures, read


@contextlib.contextmanager
def stop_on_interrupt(patience: Patience) -> Iterator[None]:
    """Let the first Ctrl-C (or a polite kill) end the patience; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if patience.stopped:
            raise KeyboardInterrupt
        patience.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
