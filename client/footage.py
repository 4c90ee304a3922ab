"""Videos in: upright sRGB frames with their times, one at a time, from a file that nobody vouches for.

What a hostile or broken file can do is bounded: only containers and codecs named here are opened, only from one
ordinary local file (never through a playlist, a reference or an address), frames have at most `Limits.pixels`,
a clip at most `Limits.seconds` and `Limits.frames`, damaged packets are skipped and counted, and one frame is
in memory at a time.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import InputError, MissingError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

__all__ = ["NAMES", "SUFFIXES", "TICKS", "Facts", "Footage", "Limits", "Shot", "is_video", "open_footage"]

SUFFIXES = (".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# Streams may appear in the middle of these, where PyAV 18 looks them up beyond the end of its list.
_WRAPPED = (".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ts", ".vob", ".wmv")
NAMES = (*SUFFIXES, *_WRAPPED)  # what a file that is named so is meant to be
TICKS = 90_000  # a second; times of frames are whole numbers of these
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_CODECS = frozenset(
    "av1 dnxhd ffv1 h263 h264 hevc libdav1d mjpeg mpeg1video mpeg2video mpeg4 prores rawvideo vp8 vp9".split()
)
_UNKNOWN, _BT601, _BT709 = 2, "ITU601", "ITU709"
_HDR = frozenset({16, 18})  # transfer curves PQ and HLG
_TORN = 200  # damaged packets in a row that end the reading


@dataclass(frozen=True)
class Limits:
    """What a clip may be at most: pixels of a frame, seconds, frames."""

    pixels: int = 36_000_000
    seconds: int = 4 * 3600
    frames: int = 1_000_000


@dataclass(frozen=True)
class Facts:
    """What a video's header says, checked.

    Attributes
    ----------
    height, width
        Of an upright frame with square pixels.
    frames
        How many there are, by the header's word; 0 if it says nothing.
    rate
        Frames a second, on average.
    sound
        Codec of the sound, empty without.
    hdr
        High dynamic range, which is painted as if it were ordinary.
    """

    height: int
    width: int
    frames: int
    rate: Fraction
    sound: str
    hdr: bool


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame: ``(H, W, 3) uint8`` sRGB, and its time in ticks of 1 / `TICKS` s."""

    rgb: NDArray[np.uint8]
    time: int


@dataclass
class Footage:
    """An opened video; made by :func:`open_footage`.

    Attributes
    ----------
    facts
        What its header says.
    damaged
        How many damaged packets were skipped so far.
    """

    name: str
    facts: Facts
    limits: Limits
    _container: InputContainer = field(repr=False)
    _turns: int = 0
    damaged: int = 0

    def shots(self, size: tuple[int, int] | None = None) -> Iterator[Shot]:
        """Yield the frames in order, upright, at ``size`` (height, width; default: the video's own); once only.

        Raises
        ------
        InputError
            If the video passes its limits or cannot be decoded.
        """
        height, width = size or (self.facts.height, self.facts.width)
        if self._turns % 2:
            height, width = width, height
        last, first, count = -1, 0, 0
        for frame in self._decoded():
            count += 1
            time = last + 1 if frame.pts is None else round(frame.pts * _base(frame) * TICKS)
            time = max(time, last + 1)
            first = time if count == 1 else first
            if count > self.limits.frames or time - first > self.limits.seconds * TICKS:
                raise _too_long(self.name, self.limits)
            last = time
            yield Shot(_upright(frame, height, width, self._turns), time)
        if count == 0:
            raise InputError(f"{self.name} has no frame that can be decoded", hint="copy or download it again")

    def _decoded(self) -> Iterator[VideoFrame]:
        from av.error import FFmpegError

        torn = 0
        packets = iter(self._container.demux(self._container.streams.video[0]))
        while True:
            try:
                packet = next(packets)
                for frame in packet.decode():
                    if frame.width * frame.height > self.limits.pixels:
                        raise _too_large(self.name, self.limits)
                    torn = 0
                    yield frame
            except StopIteration:
                return
            except (FFmpegError, MemoryError) as error:
                torn += 1
                self.damaged += 1
                if torn >= _TORN:
                    raise InputError(f"{self.name} is damaged", hint="copy or download it again") from error


def is_video(path: Path | str) -> bool:
    """Tell by its name whether a file is a video, be it one that easel reads or not."""
    return str(path).lower().endswith(NAMES)


@contextlib.contextmanager
def open_footage(path: Path, *, limits: Limits | None = None) -> Iterator[Footage]:
    """Open a video and check its header.

    Raises
    ------
    MissingError
        If PyAV is not installed.
    InputError
        If the file is no video that easel reads, or passes its limits.
    """
    limits = limits or Limits()
    av = load_av()
    name = " ".join(str(path).split())
    if not path.is_file():
        raise InputError(f"{name} " + ("is not an ordinary file" if path.exists() else "does not exist"),
                         hint="check the path")  # fmt: skip
    if name.lower().endswith(_WRAPPED):
        way_out = f"ffmpeg -i {shlex.quote(str(path))} -c copy {shlex.quote(path.stem + '.mkv')}"
        raise InputError(
            f"{name} is a kind of video that easel does not read", hint=f"put it into another file: {way_out}"
        )
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(path.open("rb"))
            options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
            container = stack.enter_context(av.open(stream, mode="r", options=options, metadata_errors="ignore"))
        except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
            hint = f"is it whole? copy it again; known are {', '.join(SUFFIXES)}"
            raise InputError(f"{name} is not a video that easel can read", hint=hint) from error
        yield _checked(name, container, limits)


def load_av() -> Any:
    """Return the module ``av``, quiet on stderr.

    Raises
    ------
    MissingError
        If it is not installed.
    """
    try:
        import av
        import av.error
        import av.logging
    except ImportError as error:
        raise MissingError("videos need PyAV, which is not installed", hint="pip install 'easel[video]'") from error
    av.logging.set_level(None)
    return av


def fine() -> int:
    """Return how pixels are converted: with colors interpolated, whose steps would flicker in motion otherwise."""
    from av.video.reformatter import Interpolation as Way

    return int(Way.BICUBIC) | int(Way.FULL_CHR_H_INT) | int(Way.FULL_CHR_H_INP) | int(Way.ACCURATE_RND)


def _checked(name: str, container: InputContainer, limits: Limits) -> Footage:
    """Check the header; the first video stream counts."""
    if not container.streams.video:
        raise InputError(f"{name} has no pictures, only sound", hint="give a video")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:  # no decoder knows the code that the file names
        raise InputError(f"{name} is coded in a way that easel does not know", hint="convert it to H.264")
    if context.name not in _CODECS:
        raise InputError(f"{name} is coded as {context.name}, which easel does not read", hint="convert it to H.264")
    if not 0 < context.width * context.height <= limits.pixels:
        raise _too_large(name, limits)
    seconds = float(container.duration or 0) / 1e6
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    frames = stream.frames or round(seconds * rate)
    if seconds > limits.seconds or frames > limits.frames:
        raise _too_long(name, limits)
    context.options = {"max_pixels": str(limits.pixels)}
    context.thread_count = 1
    height, width = context.height, context.width
    stretch = float(stream.sample_aspect_ratio or 1)
    if stretch != 1 and 0.2 <= stretch <= 5:
        height, width = (height, round(width * stretch)) if stretch > 1 else (round(height / stretch), width)
    if height * width > limits.pixels:
        raise _too_large(name, limits)
    turns, hdr = _first_look(container)
    if turns % 2:
        height, width = width, height
    heard = container.streams.audio[0].codec_context if container.streams.audio else None
    sound = "" if heard is None else heard.name
    return Footage(name, Facts(height, width, frames, Fraction(rate), sound, hdr), limits, container, turns)


def _first_look(container: InputContainer) -> tuple[int, bool]:
    """Return quarter turns (counter-clockwise) and whether it is HDR, from the first frame; rewinds."""
    from av.error import FFmpegError

    turns, hdr = 0, False
    with contextlib.suppress(FFmpegError, MemoryError, StopIteration):
        frame = next(container.decode(container.streams.video[0]))
        turns, hdr = round(frame.rotation / 90) % 4, int(frame.color_trc) in _HDR
    with contextlib.suppress(FFmpegError):
        container.seek(0, any_frame=False, backward=True)
    return turns, hdr


def _upright(frame: VideoFrame, height: int, width: int, turns: int) -> NDArray[np.uint8]:
    """Convert to RGB with the matrix that the frame names, or else the one that its size makes usual."""
    unknown = int(frame.colorspace) == _UNKNOWN
    usual = _BT709 if min(frame.height, frame.width) >= 720 else _BT601
    made = frame.reformat(
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=usual if unknown else None,
        interpolation=fine(),
    )
    return np.ascontiguousarray(np.rot90(made.to_ndarray(), turns)).astype(np.uint8, copy=False)


def _base(frame: VideoFrame) -> Fraction:
    return Fraction(frame.time_base or Fraction(1, TICKS))


def _too_large(name: str, limits: Limits) -> InputError:
    return InputError(f"frames of {name} have more than {limits.pixels:,} pixels", hint="make the video smaller first")


def _too_long(name: str, limits: Limits) -> InputError:
    told = f"{limits.seconds // 3600} hours or {limits.frames:,} frames"
    return InputError(f"{name} is longer than {told}", hint="cut it into parts")
