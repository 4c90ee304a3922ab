"""Pictures and weights made to do harm: an error of one line, and little memory.

The bombs are opened in a process of their own that may not take more memory than it should need.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, features

from shared_model import images
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig, to_dict
from shared_model.errors import EaselError, PictureError, StorageError
from shared_model.files import read_bytes
from shared_model.weights import FORMAT, architecture_hash, load_backbone, read_manifest, save_backbone

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Opens every file named, within so many bytes above what the process has already; prints what it says.
OPENER = """
import resource, sys, threading
from pathlib import Path
from shared_model.errors import EaselError
from shared_model.images import load_picture, read_settings
from shared_model.weights import load_backbone
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for name in sys.argv[2:]:
    for read in (load_backbone,) if name.endswith(".safetensors") else (load_picture, read_settings):
        try:
            read(name)
        except EaselError as error:
            assert "\\n" not in error.message + error.hint and error.hint, error.message
            print(read.__name__, Path(name).name, "refused", flush=True)
        else:
            print(read.__name__, Path(name).name, "read", flush=True)
"""


def _read_ordinary(path: Path) -> bytes:
    return read_bytes(path, limit=1 << 20, ordinary=True)


def _photo(kind: str, *, height: int = 24, width: int = 32, **options: object) -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def _has(kind: str) -> bool:
    module = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}.get(kind)
    return module is None or bool(features.check(module))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunks) + _chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + header + body + _chunk(b"IEND", b"")


def _tiff(entries: dict[int, int], *, data: bytes = b"", loop: bool = False) -> bytes:
    """A little-endian TIFF of 32-bit tags; with ``loop`` its only folder names itself as the next one."""
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return head + tags + struct.pack("<I", 8 if loop else 0) + data


def _jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(_photo("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _gif_of(width: int, height: int, frames: int = 2000) -> bytes:
    stream = io.BytesIO()
    Image.new("P", (4, 4)).save(stream, format="GIF")
    data = bytearray(stream.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    frame = bytes(data[data.index(b",") : -1])
    return bytes(data[:-1]) + frame * frames + b";"


_TEXT = zlib.compress(bytes(200 << 20), 9)  # 200 kB that become 200 MB


def _bombs() -> dict[str, bytes]:
    size = {256: 60_000, 257: 60_000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 60_000, 279: 1 << 30}
    deflated = size | {256: 9000, 257: 9000, 259: 8, 273: 200, 278: 9000, 279: len(_TEXT)}
    tile = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 1 << 20, 323: 1 << 20, 324: 200, 325: len(_TEXT)}
    small = bytes(3 * 8 + 1) * 8
    return {
        "square.png": _png(60_000, 60_000),
        "long.png": _png(2**31 - 1, 1),
        "text.png": _png(8, 8, _chunk(b"zTXt", b"easel\0\0" + _TEXT), pixels=small),
        "unicode.png": _png(8, 8, _chunk(b"iTXt", b"easel\0\1\0\0\0" + _TEXT), pixels=small),
        "profile.png": _png(8, 8, _chunk(b"iCCP", b"x\0\0" + _TEXT), pixels=small),
        "pixels.png": b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", _TEXT)
        + _chunk(b"IEND", b""),
        "huge.jpg": _jpeg_of(65_535, 65_535),
        "huge.gif": _gif_of(65_535, 65_535),
        "frames.gif": _gif_of(4, 4, frames=20_000),
        "huge.tif": _tiff(size),
        "strip.tif": _tiff(deflated, data=bytes(80) + _TEXT),
        "tile.tif": _tiff(tile, data=bytes(80) + _TEXT),
        "loop.tif": _tiff(size, loop=True),
        "huge.ppm": b"P6 100000 100000 255\n" + bytes(100),
        "digits.ppm": b"P3 " + b"9" * 5_000_000,
        "huge.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    }


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to know what a process has")
def test_bombs_take_little_memory_and_say_one_line(tmp_path: Path) -> None:
    bombs = _bombs()
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "wide.safetensors").write_bytes(_weights_of(ModelConfig(width=1024, blocks=64)))
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    names = [str(tmp_path / name) for name in (*bombs, "wide.safetensors", "header.safetensors")]
    done = subprocess.run(
        [sys.executable, "-c", OPENER, str(400 << 20), *names],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(bombs) + 2
    harmless = {"text.png", "unicode.png", "profile.png", "pixels.png", "frames.gif", "tile.tif"}  # a few real pixels
    for name in (*bombs, "wide.safetensors", "header.safetensors"):
        if name not in harmless:
            assert any(line.endswith(f"{name} refused") for line in said), name


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_at_any_place_it_is_a_picture_or_a_picture_error(kind: str) -> None:
    if not _has(kind):
        pytest.skip(f"this Pillow has no {kind}")
    data = _photo(kind)
    for end in np.random.default_rng(1).integers(0, len(data), 40).tolist():
        _opens_or_refuses(data[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_changed_at_random_it_is_a_picture_or_a_picture_error(kind: str) -> None:
    if not _has(kind):
        pytest.skip(f"this Pillow has no {kind}")
    whole, rng = _photo(kind), np.random.default_rng(2)
    for _ in range(60):
        _opens_or_refuses(_mutated(whole, rng))


def _mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """Flip bytes near the start, write extreme numbers, cut out, repeat or swap pieces."""
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(0, min(len(data), 200))), int(rng.integers(1, 9))
        what = int(rng.integers(0, 5))
        if what == 0:
            data[at : at + length] = rng.integers(0, 256, length).astype(np.uint8).tobytes()
        elif what == 1:
            data[at : at + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"][length % 4]
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = data[at : at + length] * int(rng.integers(1, 50))
        else:
            other = int(rng.integers(0, len(data)))
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def _opens_or_refuses(data: bytes) -> None:
    try:
        picture = images.load_picture(data, max_pixels=1_000_000)
    except PictureError as error:
        assert error.hint and "\n" not in error.message
    else:
        assert picture.rgb.dtype == np.uint8 and picture.rgb.shape[2] == 3


READERS = (images.load_picture, images.read_settings, _read_ordinary, load_backbone, read_manifest)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
@pytest.mark.parametrize(
    "read", [images.load_picture, images.read_settings, _read_ordinary, load_backbone, read_manifest]
)
def test_pipes_folders_and_loops_are_refused_at_once(
    make: Callable[[Path], None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(EaselError) as caught:
        read(tmp_path / "x.png")
    assert caught.value.hint


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
@pytest.mark.parametrize(
    "read", [images.load_picture, images.read_settings, _read_ordinary, load_backbone, read_manifest]
)
def test_endless_devices_are_refused_at_once(read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/dev/zero")
    for path in (Path("/dev/zero"), tmp_path / "link.png"):
        with pytest.raises(EaselError):
            read(path)


def test_a_folder_whose_links_lead_in_circles_is_searched_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_photo("PNG"))
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    assert images.find_pictures([tmp_path]) == [tmp_path / "a.png"]
    assert len(images.find_pictures([f"{tmp_path}/**"])) == 1


# ------------------------------------------------------------------------------ weights


def _weights_of(config: ModelConfig) -> bytes:
    """A file that claims a network of this size and holds nothing of it."""
    metadata = {"format": FORMAT, "config": json.dumps(to_dict(config)), "architecture": architecture_hash(config)}
    return safetensors.torch.save({"x": torch.zeros(1)}, metadata=metadata)


def _with_header(header: object, body: bytes = b"") -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        _with_header({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
        _with_header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]}}, bytes(4)),
        _with_header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        _with_header({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in ("x", "y")}, bytes(4)),
        _with_header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        _with_header({"__metadata__": {"format": 7}}),
        _with_header({"__metadata__": [1, 2]}),
        _with_header("[" * 100_000),
        _with_header('{"__metadata__": {"format": "' + FORMAT + '", "config": "' + "[" * 100_000 + '"}}'),
        _with_header({"__metadata__": {"format": FORMAT, "config": "[]"}}),
        _with_header({"__metadata__": {"format": FORMAT, "config": '{"width": 1e99}'}}),
    ],
)
def test_wrong_weights_files_are_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    path.write_bytes(data)
    with pytest.raises(EaselError) as caught:
        load_backbone(path)
    assert caught.value.hint and "\n" not in caught.value.message


def test_weights_changed_at_random_are_refused(tmp_path: Path) -> None:
    small = Backbone(ModelConfig(width=4, blocks=1, code_dim=2, encoder_width=3, critic_width=2))
    path = save_backbone(tmp_path / "b.safetensors", small)
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    for _ in range(25):
        data = _mutated(whole, rng)
        path.write_bytes(data)
        if data != whole:
            with pytest.raises(EaselError):
                load_backbone(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_weights_that_paint_nothing_are_refused_whatever_their_checksum(value: float, tmp_path: Path) -> None:
    small = Backbone(ModelConfig(width=4, blocks=1, code_dim=2, encoder_width=3, critic_width=2))
    path = save_backbone(tmp_path / "b.safetensors", small)
    load_backbone(path)
    with torch.no_grad():
        next(reversed(list(small.parameters()))).view(-1)[-1] = value
    with pytest.raises(StorageError, match="numbers that nothing can be painted with") as caught:
        load_backbone(save_backbone(path, small))
    assert caught.value.hint


def test_a_claimed_network_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.safetensors"
    path.write_bytes(_weights_of(ModelConfig(width=8, blocks=1)))
    monkeypatch.setattr(Backbone, "load_state_dict", lambda *_: pytest.fail("the network was made"))
    with pytest.raises(StorageError, match="damaged"):
        load_backbone(path)
