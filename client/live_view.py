"""What a live picture is painted from: a camera, the screen, or a video file; always the newest frame.

A camera gives more frames than can be painted, so a thread reads them all and keeps one. Nothing is stored.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.footage import TICKS, is_video, load_av, open_footage
from shared_model.errors import EaselError, InputError, MissingError

__all__ = ["Frames", "Newest", "opened", "playing"]

Frames = Iterator[NDArray[np.uint8]]
_NO_CAMERA = "plug it in, close programs that use it, or name another one: camera:1"


def opened(source: str, *, platform: str = sys.platform) -> contextlib.AbstractContextManager[Frames]:
    """Open ``camera``, ``camera:N`` (on Windows ``camera:NAME``), ``screen`` or a video file.

    Parameters
    ----------
    source
        What to look at. A video file is played at its own speed, again and again.
    platform
        As ``sys.platform``.

    Returns
    -------
    context manager
        Frames ``(H, W, 3) uint8`` sRGB, without end, for as long as the context lasts.

    Raises
    ------
    InputError
        If there is no such source.
    MissingError
        If there is no camera or screen, or PyAV is not installed.
    """
    kind, _, which = source.partition(":")
    if kind == "camera":
        return _captured(*_camera(which, platform), what=f"camera {which or 0}", hint=_NO_CAMERA)
    if source == "screen":
        return _captured(*_screen(platform), what="screen", hint="a screen needs a desktop that programs may record")
    if not is_video(source):
        raise InputError(f"{source} is neither camera, screen nor a video", hint="such as: easel live camera")
    return _film(Path(source).expanduser())


def _camera(which: str, platform: str) -> tuple[str, str, dict[str, str]]:
    """Return name, format and options of a camera."""
    if platform == "win32":
        if not which:
            raise InputError("which camera?", hint='name it as Windows does: easel live "camera:Integrated Camera"')
        return f"video={which}", "dshow", {}
    number = which or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise InputError(f"{number!r} is no camera", hint="such as: easel live camera:1")
    if platform == "darwin":
        return f"{number}:none", "avfoundation", {"framerate": "30"}
    return f"/dev/video{number}", "v4l2", {}


def _screen(platform: str) -> tuple[str, str, dict[str, str]]:
    """Return name, format and options of the screen."""
    if platform == "win32":
        return "desktop", "gdigrab", {"framerate": "15"}
    if platform == "darwin":
        return "Capture screen 0:none", "avfoundation", {"framerate": "15"}
    return os.environ.get("DISPLAY", ":0"), "x11grab", {"framerate": "15"}


@contextlib.contextmanager
def _captured(name: str, kind: str, options: dict[str, str], *, what: str, hint: str) -> Iterator[Frames]:
    av = load_av()
    try:
        container = av.open(name, format=kind, options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MissingError(f"the {what} cannot be opened: {getattr(error, 'strerror', error)}", hint=hint) from error

    def frames() -> Frames:
        try:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"the {what} gives no more pictures", hint=hint) from error
        raise InputError(f"the {what} gives no more pictures", hint=hint)

    with container:
        yield frames()


@contextlib.contextmanager
def _film(path: Path) -> Iterator[Frames]:
    with open_footage(path):
        pass  # its header is checked before anything is shown
    yield playing(path)


def playing(
    path: Path, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Frames:
    """Play a video at its own speed, again and again."""
    while True:
        began = clock()
        with open_footage(path) as footage:
            first = None
            for shot in footage.shots():
                first = shot.time if first is None else first
                sleep(max(0.0, (shot.time - first) / TICKS - (clock() - began)))
                yield shot.rgb


class Newest:
    """Reads frames in a thread and keeps the newest.

    Parameters
    ----------
    frames
        Frames without end.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._changed = threading.Condition()
        self._frame: NDArray[np.uint8] | None = None
        self._error: EaselError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._read, daemon=True, name="live view")
        self._thread.start()

    def take(self, *, wait_s: float) -> NDArray[np.uint8] | None:
        """Return the newest frame that was not taken yet; ``None`` if there is none in time.

        Raises
        ------
        EaselError
            If the source ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._error is not None, wait_s)
            if self._error is not None:
                raise self._error
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._thread.join(2.0)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if self._closed:
                    return
                self._put(frame, None)
        except EaselError as error:
            self._put(None, error)
        except Exception as error:  # a thread that dies silently would leave a page that waits for ever
            self._put(None, InputError(f"the source failed: {error}", hint="start it again"))

    def _put(self, frame: NDArray[np.uint8] | None, error: EaselError | None) -> None:
        with self._changed:
            self._frame, self._error = frame, error
            self._changed.notify_all()
