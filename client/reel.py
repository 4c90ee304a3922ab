"""Videos out: segments as they get finished, then one file of them all with the source's sound.

A segment is a file of its own that starts with a whole picture, so a killed run loses at most one. Joining copies
packets: nothing is coded twice, and the sound stays what it was, byte for byte.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.footage import TICKS, fine, load_av
from shared_model.errors import EaselError, InputError, StorageError
from shared_model.files import move_new

if TYPE_CHECKING:
    from av.packet import Packet

__all__ = ["SAVE_SUFFIXES", "can_hold", "check_space", "join", "read_comment", "segment"]

SAVE_SUFFIXES = (".mkv", ".mov", ".mp4")
_FORMATS = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
_H264 = {  # strokes are fine and must not flicker: true to the pixel, motion followed finely, all frames alike
    "tune": "psnr",
    "preset": "veryfast",
    "bf": "0",
    "x264-params": "subme=7:trellis=0",
    "crf": "8",  # 11 makes files a quarter smaller, and sharp strokes that move between pixels flicker
}
_MPEG4 = {"q:v": "2"}  # where FFmpeg was built without x264
_BT709 = 1
_RESERVE = 64 << 20  # bytes of the disk that are left alone

Write = Callable[[NDArray[np.uint8], int], None]


@contextlib.contextmanager
def segment(path: Path, *, size: tuple[int, int], rate: Fraction, h264: Mapping[str, str] = _H264) -> Iterator[Write]:
    """Open a segment; it gets its name only when the block ends well.

    Parameters
    ----------
    size
        Height and width of a frame.
    rate
        Frames a second.
    h264
        Options for x264, where it is there.

    Yields
    ------
    Callable
        ``write(rgb, time)``: one frame ``(H, W, 3) uint8`` and its time in ticks, rising. Odd sizes are filled up
        by one row or column, since the format holds even ones.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    av = load_av()
    height, width = (side + side % 2 for side in size)
    part = path.with_suffix(".part")
    with _storage_errors(path), av.open(str(part), "w", format="nut") as container:
        able = "libx264" in av.codec.codecs_available
        name, options = ("libx264", h264) if able else ("mpeg4", _MPEG4)
        stream = container.add_stream(name, rate=rate.limit_denominator(1001), options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.thread_count = 1
        context.colorspace = context.color_range = context.color_primaries = context.color_trc = _BT709

        def write(rgb: NDArray[np.uint8], time: int) -> None:
            filled = np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(filled), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation=fine()
            )
            frame.pts, frame.time_base = time, Fraction(1, TICKS)
            container.mux(stream.encode(frame))

        yield write
        container.mux(stream.encode())
    with _storage_errors(path):
        _settle(part, path)


def join(
    segments: Sequence[Path],
    target: Path,
    *,
    source: Path | None,
    scratch: Path,
    settings: Mapping[str, object],
    rate: Fraction | None = None,
    replace: bool = True,
) -> bool:
    """Write ``target``, whole or not at all: the pictures of the segments, the sound of ``source``, the settings.

    Returns whether it did: without ``replace``, what has the name is left alone.

    The parts are written to ``scratch`` in the same folder, or on the same disk, first. Without ``settings``, none
    are embedded. ``rate`` is what the header says of frames a second: Matroska has it from nowhere else.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    av = load_av()
    with _storage_errors(target), contextlib.ExitStack() as stack:
        out = stack.enter_context(av.open(str(scratch), "w", format=_FORMATS[target.suffix.lower()]))
        if settings:
            out.metadata["comment"] = json.dumps({"easel": dict(settings)}, sort_keys=True)
        with av.open(str(segments[0]), "r", format="nut") as first:
            pictures = out.add_stream_from_template(first.streams.video[0])
        pictures.time_base = Fraction(1, TICKS)
        if rate is not None:
            pictures.codec_context.framerate = rate.limit_denominator(1001)
        heard = None if source is None else _opened(av, source, stack)
        start = Fraction(max(0, (heard and heard.start_time) or 0), av.time_base)
        ways = [_pictures(av, segments, pictures, start)]
        if heard is not None and heard.streams.audio:
            ways.append(_sound(heard, out.add_stream_from_template(heard.streams.audio[0]), start))
        for _, _, packet in heapq.merge(*ways, key=lambda item: item[:2]):
            out.mux_one(packet)
    with _storage_errors(target):
        return _settle(scratch, target, replace=replace)


def can_hold(suffix: str, sound: str) -> bool:
    """Tell whether a file with this suffix can hold the sound as it is."""
    av = load_av()
    if not sound:
        return True
    codec = av.Codec(sound, "r").canonical_name if sound in av.codec.codecs_available else sound
    if suffix.lower() == ".mp4" and codec.startswith(("pcm", "vorbis")):
        return False  # it could, but few players play it
    with av.open(os.devnull, "w", format=_FORMATS[suffix.lower()]) as probe:
        return codec in probe.supported_codecs


def check_space(folder: Path, *, frames: int, size: tuple[int, int], kept: int) -> None:
    """Refuse to go on where the disk could not hold ``frames`` more, even uncompressed, and ``kept`` bytes twice.

    Raises
    ------
    StorageError
        If it could not.
    """
    needed = frames * size[0] * size[1] * 3 // 2 + kept + _RESERVE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the disk has {free >> 20} MiB left and the video may need {needed >> 20}",
            hint="free some space and run the same command again: finished parts are kept",
        )


def read_comment(path: Path) -> dict[str, object]:
    """Return the settings that :func:`join` embedded, or ``{}``."""
    av = load_av()
    try:
        with path.open("rb") as stream, av.open(stream, mode="r", metadata_errors="ignore") as container:
            found = {key.lower(): value for key, value in container.metadata.items()}.get("comment", "")
        settings = json.loads(found)["easel"]
    except (av.error.FFmpegError, OSError, ValueError, LookupError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


Timed = Iterator[tuple[Fraction, int, "Packet[Any]"]]


def _pictures(av: Any, segments: Sequence[Path], stream: Any, start: Fraction) -> Timed:
    for path in segments:
        with av.open(str(path), "r", format="nut") as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.dts is not None:
                    yield _shifted(packet, stream, start), 0, packet


def _opened(av: Any, source: Path, stack: contextlib.ExitStack) -> Any:
    """Open the video whose sound is copied."""
    origin = stack.enter_context(source.open("rb"))
    options = {"protocol_whitelist": "none"}
    return stack.enter_context(av.open(origin, mode="r", options=options, metadata_errors="ignore"))


def _sound(container: Any, stream: Any, start: Fraction) -> Timed:
    for packet in container.demux(container.streams.audio[0]):
        if packet.dts is not None and packet.size:
            yield _shifted(packet, stream, start), 1, packet


def _shifted(packet: Any, stream: Any, start: Fraction) -> Fraction:
    """Move a packet to ``stream``, whose clock begins at ``start``, as camcorders' does anywhere; returns its time."""
    ticks = round(start / packet.time_base)
    packet.dts -= ticks
    if packet.pts is not None:
        packet.pts -= ticks
    packet.stream = stream
    return Fraction(packet.dts * packet.time_base)


def _settle(part: Path, path: Path, *, replace: bool = True) -> bool:
    """Flush a finished file to the disk and give it its name; returns whether that was free, or replaced."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    if not replace:
        return move_new(part, path)
    os.replace(part, path)
    return True


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    av = load_av()
    try:
        yield
    except EaselError:
        raise
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise _unwritten(path, error) from error
        raise InputError(f"cannot make {path} a video: {error.strerror}", hint="try -o NAME.mkv") from error
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {error.strerror}", hint="check the space on the disk and permissions")
