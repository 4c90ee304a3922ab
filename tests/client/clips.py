"""Small videos for tests, and what is in a painted one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from client.footage import TICKS, Limits, Shot, open_footage

RATE = Fraction(25)


def pan(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames of a window that moves over a smooth picture, one pixel a frame."""
    generator = np.random.default_rng(5)
    coarse = generator.integers(30, 220, (height // 8 + 2, (width + count) // 8 + 2, 3))
    big = np.kron(coarse, np.ones((8, 8, 1))).astype(np.float32)
    for axis in (0, 1):
        big = sum(np.roll(big, shift, axis) for shift in range(-4, 5)) / 9
    return [big[:height, i : i + width].round().astype(np.uint8) for i in range(count)]


def make(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    sound: str = "",
    codec: str = "libx264",
    start_s: int = 0,
) -> Path:
    """Write a clip; ``times`` in ticks, ``start_s`` is added to all."""
    import av

    with av.open(str(path), "w", options={"output_ts_offset": str(start_s)}) as container:
        options = {"crf": "8", "preset": "ultrafast", "bf": "0"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p" if codec == "libx264" and stream.width % 2 == 0 else "yuv444p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj444p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        audio = container.add_stream(sound, rate=16000, layout="mono") if sound else None
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            wave = np.sin(np.arange(16000 * len(frames) // 25) / 6).astype(np.float32)
            for start in range(0, len(wave), 1024):
                part = wave[None, start : start + 1024]
                kind = "fltp" if sound == "aac" else "s16"
                data = part if kind == "fltp" else (part * 20000).astype(np.int16)
                piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=kind, layout="mono")
                piece.sample_rate, piece.pts = 16000, start
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return path


def shots(path: Path, **limits: int) -> list[Shot]:
    with open_footage(path, limits=Limits(**limits)) as opened:
        return list(opened.shots())


def sound_of(path: Path) -> tuple[str, list[bytes]]:
    import av

    with path.open("rb") as stream, av.open(stream) as container:
        audio = container.streams.audio[0]
        return audio.codec_context.name, [bytes(packet) for packet in container.demux(audio) if packet.size]


def turned(path: Path, target: Path) -> Path:
    """Copy an MP4 whose header says: turn by a quarter, clockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target
