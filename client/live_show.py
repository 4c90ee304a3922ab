"""A live picture: the newest frame is painted, steadily, at the size that this machine can paint often enough.

The size is that of the canvas too, which is what painting costs: on a slow machine strokes are larger in the picture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from client.batch import Painter
from client.live_view import Newest
from client.views import encode_view
from shared_model.errors import EaselError, InputError
from shared_model.head import Head
from shared_model.images import Picture, resize_short, to_tensor, to_uint8
from shared_model.mix import Mixed
from shared_model.temporal import State, follow, stabilise

__all__ = ["LARGEST_PX", "SMALLEST_PX", "Pace", "Show", "Shown"]

SMALLEST_PX, LARGEST_PX = 128, 1080
_STEP_PX = 16
_PATIENCE = 4  # frames in a row that must be too slow, or fast enough for more, before the size changes
_FLOOR = 0.4  # share of a frame's time, at most, that is taken not to depend on its size


@dataclass
class Pace:
    """Chooses the short side of the painting.

    Attributes
    ----------
    fps
        Frames a second that are wanted.
    largest_px
        Never more than this.
    px
        The short side now.
    """

    fps: float
    largest_px: int = 512
    px: int = 192
    _waited: int = 0

    def __post_init__(self) -> None:
        if not 0.1 <= self.fps <= 120:
            raise InputError(f"{self.fps:g} frames a second cannot be aimed at", hint="use --fps 0.1 to 120")
        if not SMALLEST_PX <= self.largest_px <= LARGEST_PX:
            raise InputError(f"--size must be {SMALLEST_PX} to {LARGEST_PX}, not {self.largest_px}")
        self.px = min(self.px, self.largest_px)

    def note(self, seconds: float) -> bool:
        """Take notice of how long a frame took; returns whether the size changes with the next one."""
        share = seconds * self.fps  # 1: just in time
        wanted = self._wanted(share)
        if share > 1.1 and wanted < self.px:
            self._waited = max(self._waited, 0) + 1
        elif share < 0.8 and wanted >= self.px + 2 * _STEP_PX:
            self._waited = min(self._waited, 0) - 1
        else:
            self._waited = 0
        if abs(self._waited) < _PATIENCE:
            return False
        self._waited, self.px = 0, wanted
        return True

    def _wanted(self, share: float) -> int:
        """Return the side at which a frame would take nine tenths of its time, by the number of its pixels."""
        factor = (0.9 / max(share, 1e-6)) ** 0.5
        side = self.px * min(max(factor, _FLOOR), 1 / _FLOOR)
        return int(min(max(side // _STEP_PX * _STEP_PX, SMALLEST_PX), self.largest_px))


@dataclass(frozen=True)
class Shown:
    """A painted frame.

    Attributes
    ----------
    number
        From 1.
    jpeg
        The file.
    size
        Height and width.
    fps
        Frames a second, over the last ones.
    """

    number: int
    jpeg: bytes
    size: tuple[int, int]
    fps: float


class Show:
    """Paints the newest frames in a thread, one after the other, and keeps the last painting.

    Parameters
    ----------
    newest
        Where frames come from.
    painter
        Who paints them; the sizes in its options and its head's canvas are limits.
    pace
        How large.
    clock
        Seconds.
    """

    def __init__(
        self, newest: Newest, *, painter: Painter, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.newest, self.painter, self.pace, self.clock = newest, painter, pace, clock
        self._changed = threading.Condition()
        self._shown: Shown | None = None
        self._error: EaselError | None = None
        self._closed = False
        self._paused = False
        self._state: State | None = None
        self._finished: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name="live show")
        self._thread.start()

    def after(self, number: int, *, wait_s: float) -> Shown | None:
        """Return the newest painting later than ``number``; ``None`` if there is none in time.

        Raises
        ------
        EaselError
            If the source ended or a frame could not be painted.
        """

        def ready() -> bool:
            return self._error is not None or (self._shown is not None and self._shown.number > number)

        with self._changed:
            ready_now = self._changed.wait_for(ready, wait_s)
            if self._error is not None:
                raise self._error
            return self._shown if ready_now else None

    def pause(self, paused: bool) -> None:
        """Stop painting for a while, or go on."""
        self._paused = paused
        self._finished = []

    def close(self) -> None:
        """Stop painting and reading."""
        self._closed = True
        self._thread.join(10.0)
        self.newest.close()

    def _run(self) -> None:
        try:
            while not self._closed:
                frame = self.newest.take(wait_s=0.2)
                if frame is None or self._paused:
                    continue
                began = self.clock()
                shown = self._paint(to_tensor(frame))
                self.pace.note(self.clock() - began)
                with self._changed:
                    self._shown = shown
                    self._changed.notify_all()
        except EaselError as error:
            self._fail(error)
        except Exception as error:
            self._fail(EaselError(f"a frame could not be painted ({type(error).__name__}: {error})"))

    def _paint(self, photo: Tensor) -> Shown:
        photo = resize_short(photo, min(self.pace.px, *photo.shape[-2:]))
        head = _on_canvas(self.painter.head, self.pace.px)
        step = follow(self._state, photo)
        painting = self.painter.engine.stylize(photo, head, options=self.painter.frame_options(), scene=step.scene)
        steady, self._state = stabilise(self._state, photo, painting, step=step)
        data = encode_view(Picture(rgb=to_uint8(steady)))
        number = 1 if self._shown is None else self._shown.number + 1
        self._finished = times = [*self._finished[-19:], self.clock()]
        height, width = steady.shape[-2:]
        return Shown(number, data, (height, width), (len(times) - 1) / max(times[-1] - times[0], 1e-9))

    def _fail(self, error: EaselError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def _on_canvas(head: Head, px: int) -> Head:
    """Return the head for a canvas whose short side is at most ``px``."""
    if isinstance(head, Mixed):
        return head.each(lambda part: _on_canvas(part, px))
    return replace(head, config=replace(head.config, canvas_px=min(px, head.config.canvas_px)))
