"""Pictures in and out: files, pixels and tensors.

Whatever a person's folder holds becomes 8-bit sRGB plus an optional alpha channel: any orientation,
colour mode, bit depth or profile. Mistakes become one-line errors; nothing half-written is left.
What is written carries the pixels, easel's own settings and, where the caller passes them on, the tags that
:mod:`shared_model.tags` keeps: never the place where a photo was taken unless that is asked for.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from shared_model import heic
from shared_model.errors import InputError, PictureError
from shared_model.files import write_atomic
from shared_model.folders import SUFFIXES, find_pictures
from shared_model.tags import DAMAGE, Tags, embedded, from_srgb, read_comment, read_tags, to_srgb

__all__ = [
    "MAX_PIXELS",
    "SAVE_SUFFIXES",
    "SUFFIXES",
    "Picture",
    "encode_picture",
    "find_pictures",
    "load_picture",
    "load_tensor",
    "read_settings",
    "resize_short",
    "save_picture",
    "to_tensor",
    "to_uint8",
]

MAX_PIXELS = 100_000_000
SAVE_SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# No EPS: it runs a program. Common ones first: Pillow loads the others' code only when it gets to them.
_READABLE = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
_SAVERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {"compress_level": 3}),  # a quarter of the time of the default for a tenth more bytes
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".webp": ("WEBP", {"quality": 95}),
}
_SEVERAL = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # not a phone's JPEG, which may hold a depth map besides
_ORIENTATION_TAG = 0x0112
_BAND = 256  # rows that are turned into 8 bits at once
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture.

    Parameters
    ----------
    rgb
        ``(H, W, 3) uint8``, sRGB.
    alpha
        ``(H, W) uint8``, 255 is opaque; ``None`` if every pixel is opaque.
    tags
        What the file said besides.
    more
        The file holds more pictures than this one: an animation, or pages.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    tags: Tags | None = None
    more: bool = False


def load_picture(source: Path | str | bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture file, or the bytes of one, upright and in sRGB.

    The EXIF orientation is applied, an embedded colour profile is converted (a broken one is
    ignored), 16-bit and floating-point pictures are scaled, and of an animation the first frame is
    taken.

    Raises
    ------
    PictureError
        If it is missing, a folder, empty, no picture, damaged, unsupported, or has more than
        ``max_pixels`` pixels (read from its header, before decoding).
    """
    with _streamed(source) as (name, stream):
        if heic.is_heic(_head(stream)):
            image, more = heic.decode(stream, name, max_pixels=max_pixels)
            return replace(_normalize(image), more=more)
        image = _opened(stream, name, max_pixels)
        try:
            more = image.format in _SEVERAL and bool(getattr(image, "is_animated", False))
            image.load()
            return replace(_normalize(image), more=more)
        except (Image.DecompressionBombError, *DAMAGE) as error:
            raise PictureError(f"{name} is damaged or cut off", hint="copy or download it again") from error
        except MemoryError as error:
            raise PictureError(f"{name} does not fit into memory", hint="make it smaller first") from error


def save_picture(
    path: Path | str,
    rgb: NDArray[np.uint8],
    *,
    alpha: NDArray[np.uint8] | None = None,
    settings: Mapping[str, object] | None = None,
    tags: Tags | None = None,
) -> Path:
    """Write a picture atomically, in the format that the suffix of ``path`` names.

    Parameters
    ----------
    path
        Ends in one of `SAVE_SUFFIXES`.
    rgb
        ``(H, W, 3) uint8``.
    alpha
        ``(H, W) uint8``; JPEG cannot hold it and gets the picture on white.
    settings
        Embedded as JSON; `read_settings` returns it.
    tags
        Written too; with a color profile the pixels are converted into it.

    Raises
    ------
    InputError
        If the suffix is not supported or the format cannot hold the picture.
    StorageError
        If it cannot be written, for example because the disk is full.
    """
    data = encode_picture(rgb, suffix=Path(path).suffix, alpha=alpha, settings=settings, tags=tags)
    return write_atomic(path, data)


def encode_picture(
    rgb: NDArray[np.uint8],
    *,
    suffix: str,
    alpha: NDArray[np.uint8] | None = None,
    settings: Mapping[str, object] | None = None,
    tags: Tags | None = None,
) -> bytes:
    """Return the bytes of a picture file; see `save_picture` for arguments and errors."""
    if suffix.lower() not in _SAVERS:
        offered = ", ".join(SAVE_SUFFIXES)
        raise InputError(f"cannot save a picture as '{suffix}'", hint=f"use a file name that ends in one of {offered}")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    kind, options = _SAVERS[suffix.lower()]
    if alpha is not None and kind == "JPEG":
        opacity = alpha[..., None].astype(np.float32) / 255
        rgb = np.rint(rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if tags is not None and tags.profile:
        image = from_srgb(image, tags.profile)
    if alpha is not None and kind != "JPEG":
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    options = {**options, **embedded(settings, tags, kind)}
    stream = io.BytesIO()
    try:
        image.save(stream, format=kind, **options)
    except (OSError, ValueError, struct.error) as error:
        message = f"a picture of {image.width} x {image.height} with these settings does not fit into {kind}"
        raise InputError(message, hint="save it as .png instead") from error
    return stream.getvalue()


def read_settings(path: Path | str) -> dict[str, object]:
    """Return the settings that `save_picture` embedded, or ``{}`` if there are none.

    Raises
    ------
    PictureError
        If it is not a readable picture.
    """
    with _streamed(path) as (name, stream):
        if heic.is_heic(_head(stream)):
            return {}
        settings = read_comment(_opened(stream, name, MAX_PIXELS))
    return settings if isinstance(settings, dict) else {}


def to_tensor(rgb: NDArray[np.uint8]) -> Tensor:
    """Turn ``(H, W, 3) uint8`` into ``(1, 3, H, W) float32`` in [0, 1]."""
    return torch.from_numpy(rgb.transpose(2, 0, 1).copy()).unsqueeze(0).float().div_(255)


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """Turn ``(1, 3, H, W)`` or ``(3, H, W)`` in [0, 1] into ``(H, W, 3) uint8``; clamps, and NaN is black."""
    picture = x.detach().reshape(x.shape[-3:])
    pixels = np.empty((picture.shape[1], picture.shape[2], 3), dtype=np.uint8)
    for start in range(0, len(pixels), _BAND):  # a large picture needs no second copy in floating point
        band = picture[:, start : start + _BAND].float().nan_to_num(nan=0.0).clamp(0, 1)
        pixels[start : start + _BAND] = band.mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels


def resize_short(x: Tensor, short_px: int) -> Tensor:
    """Resize ``(N, 3, H, W)`` with antialiasing so that its shorter side is ``short_px`` pixels.

    The aspect stays; for an extreme one (such as 1 x 100000) the result is kept to `MAX_PIXELS`
    pixels instead.
    """
    height, width = x.shape[-2:]
    scale = min(short_px / min(height, width), (MAX_PIXELS / (height * width)) ** 0.5)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size == (height, width):
        return x
    return functional.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def load_tensor(path: Path | str | bytes, short_px: int | None = None) -> Tensor:
    """Load a picture as ``(1, 3, H, W) float32`` in [0, 1], optionally resized; alpha is put on white."""
    picture = load_picture(path)
    x = to_tensor(picture.rgb)
    if picture.alpha is not None:
        opacity = torch.tensor(picture.alpha).float() / 255
        x = x * opacity + (1 - opacity)
    return x if short_px is None else resize_short(x, short_px)


@contextlib.contextmanager
def _streamed(source: Path | str | bytes) -> Iterator[tuple[str, BinaryIO]]:
    """Open a file that is not empty; Pillow's warnings stay inside."""
    name = "the picture" if isinstance(source, bytes) else " ".join(str(source).split())
    stream: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else _open_file(Path(source), name)
    with warnings.catch_warnings(), stream:
        warnings.simplefilter("ignore")
        if not _head(stream):
            raise PictureError(f"{name} is empty (zero bytes)", hint="copy or download it again")
        yield name, stream


def _head(stream: BinaryIO) -> bytes:
    stream.seek(0)
    head = stream.read(heic.BRAND_BYTES)
    stream.seek(0)
    return head


def _opened(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Open a picture without decoding it."""
    try:
        image = Image.open(stream, formats=_READABLE)
    except Image.DecompressionBombError as error:
        raise _too_large(name, max_pixels) from error
    except (*DAMAGE, MemoryError) as error:
        head = _head(stream)
        video = head[4:8] == b"ftyp" and b"avi" not in head  # which an AVIF has among its brands
        more = "HEIC, " if heic.installed() else ""
        known = f"use a JPEG, PNG, WebP, TIFF, AVIF, {more}GIF or BMP file"
        hint = "for videos: easel stylize CLIP.mp4" if video else known
        raise PictureError(f"{name} is not a picture that easel can read", hint=hint) from error
    if image.width * image.height > max_pixels:
        raise _too_large(name, max_pixels)
    return image


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        if path.is_dir():
            raise PictureError(f"{name} is a folder, not a picture", hint="give one of the pictures in it")
        if path.exists() and not path.is_file():
            raise PictureError(f"{name} is not an ordinary file", hint="save the picture to a file first")
        return path.open("rb")
    except FileNotFoundError as error:
        raise PictureError(f"{name} does not exist", hint="check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"cannot read {name}: {reason}", hint="check the path and its permissions") from error


def _too_large(name: str, max_pixels: int) -> PictureError:
    return PictureError(f"{name} has more than {max_pixels:,} pixels", hint="make it smaller first")


def _normalize(image: Image.Image) -> Picture:
    """Bring a loaded image of any mode to upright sRGB and alpha."""
    profile, tags = image.info.get("icc_profile"), read_tags(image)
    with contextlib.suppress(*DAMAGE):  # damaged EXIF: the picture is shown as it is stored
        turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
        image = image if turn is None else image.transpose(turn)
    if image.mode.startswith(("I", "F")):
        image = _to_grey(image)
    alpha = None
    if image.has_transparency_data:
        alpha = np.array(image.convert("RGBA").getchannel("A"))
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode not in ("CMYK", "L", "LAB"):
        image = image.convert("RGB")
    rgb = np.array(to_srgb(image, profile))
    return Picture(rgb=rgb, alpha=None if alpha is None or alpha.min() == 255 else alpha, tags=tags)


def _to_grey(image: Image.Image) -> Image.Image:
    """Scale a 16-bit, 32-bit or floating-point image to 8-bit grey, with alpha if one value is transparent."""
    values = np.nan_to_num(np.array(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    floor = min(0.0, float(values.min()))
    peak = float(values.max())
    if image.mode.startswith("I;16") and floor >= 0:
        ceiling = 65535.0
    else:
        usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        ceiling = next((limit for limit in usual if peak <= limit), peak)
    span = max(ceiling - floor, np.finfo(np.float64).tiny)
    grey = Image.fromarray(np.rint((values - floor) / span * 255).clip(0, 255).astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
