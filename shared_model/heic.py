"""HEIC photos, what iPhones take: read where ``pi-heif`` is installed (the extra ``heic``), decoded elsewhere.

The decoder is C and C++ (libheif, libde265), and changed files make it crash. So each photo is decoded by a process of
its own (:mod:`shared_model.heic_decoder`), which has bounded memory and time and writes no files: a hostile photo ends
that process, and easel says that the photo is damaged.

Guarantees: whatever a file holds, :func:`decode` returns or raises :class:`PictureError`.
Assumes: nothing of the decoder; the process is no sandbox, so code that a file could make it run has the user's rights.
Edge cases: on Windows memory is not bounded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageCms

from shared_model.errors import PictureError
from shared_model.tags import DAMAGE

__all__ = ["BRAND_BYTES", "SUFFIXES", "decode", "installed", "is_heic"]

SUFFIXES = (".heic", ".heif", ".hif")
BRAND_BYTES = 64
_LARGEST_FILE = 1 << 28
_PATIENCE_S = 120.0
_SCRIPT = Path(__file__).with_name("heic_decoder.py")
_ORIENTATION_TAG = 0x0112
_CONVERT = "convert it to JPEG first"
_AGAIN = f"copy or download it again, or {_CONVERT}"
_MODES = {"L": 1, "I;16": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}  # bytes a pixel
# Red, green and blue of color spaces by their number in ITU-T H.273, adapted to D50 as ICC profiles want them.
_PRIMARIES = {
    9: ("Rec. 2020", (0.67348, 0.27904, -0.00194, 0.16568, 0.67534, 0.02998, 0.12505, 0.04561, 0.79686)),
    12: ("Display P3", (0.51512, 0.24120, -0.00105, 0.29198, 0.69225, 0.04189, 0.15710, 0.06657, 0.78407)),
}


def installed() -> bool:
    """Tell whether the package that reads HEIC is there; loads nothing."""
    return importlib.util.find_spec("pi_heif") is not None


def is_heic(head: bytes) -> bool:
    """Tell from the first `BRAND_BYTES` of a file whether it is HEIC (or HEIF, but not AVIF)."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), BRAND_BYTES)
    major, others = head[8:12], [head[at : at + 4] for at in range(16, end, 4)]
    if major[:3] in (b"mif", b"msf"):
        return not {b"avif", b"avis"} & {*others}
    return major[:3] in (b"hei", b"hev")


def decode(
    stream: BinaryIO, name: str, *, max_pixels: int, command: Sequence[str] | None = None
) -> tuple[Image.Image, bool]:
    """Decode the main picture of a HEIC file.

    Parameters
    ----------
    stream
        The file, at its start.
    name
        What errors call it.
    max_pixels
        A larger picture is refused before it is decoded.
    command
        What decodes; default: this Python with :mod:`shared_model.heic_decoder`.

    Returns
    -------
    tuple
        The picture, turned upright, 8 bits deep (grey of more bits: ``I;16``), with EXIF, whose orientation is taken
        out, and color profile in its ``info``; and whether the file holds more pictures. Thumbnails, depth maps and
        the like are none.

    Raises
    ------
    PictureError
        If pi-heif is not installed, or the picture is damaged, too large or of a kind that pi-heif does not decode.
    """
    if not installed():
        raise PictureError(
            f"{name} is a HEIC photo, and what reads these is not installed",
            hint=f"pip install 'easel[heic]', or {_CONVERT}",
        )
    data = stream.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise PictureError(f"{name} is a HEIC file of more than {_LARGEST_FILE >> 20} MB", hint=_CONVERT)
    command = command or (sys.executable, "-P", str(_SCRIPT))
    try:
        done = subprocess.run([*command, str(max_pixels)], input=data, capture_output=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise PictureError(f"{name} takes longer than {_PATIENCE_S:.0f} s to decode", hint=_CONVERT) from error
    except OSError as error:
        raise PictureError(f"{name} cannot be decoded: {error.strerror}", hint=_CONVERT) from error
    answer, _, rest = done.stdout.partition(b"\n")
    told: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        told = json.loads(answer)
    if done.returncode or "size" not in told:
        raise _refused(name, told.get("refused", ""), max_pixels)
    return _assembled(name, told, memoryview(rest)), bool(told["several"])


def _refused(name: str, why: str, max_pixels: int) -> PictureError:
    if why == "large":
        return PictureError(f"{name} has more than {max_pixels:,} pixels", hint="make it smaller first")
    if why == "memory":
        return PictureError(f"{name} does not fit into memory", hint="make it smaller first")
    if why == "unknown":
        return PictureError(f"{name} is not a picture that easel can read", hint=_CONVERT)
    if why == "import":
        hint = f"pip install --force-reinstall pi-heif, or {_CONVERT}"
        return PictureError(f"{name} cannot be read: pi-heif does not start", hint=hint)
    return PictureError(f"{name} is damaged or cut off", hint=_AGAIN)


def _assembled(name: str, told: dict[str, Any], rest: memoryview) -> Image.Image:
    """Make the picture of what the decoder has written: EXIF, profile, pixels."""
    (width, height), mode = told["size"], told["mode"]
    exif, profile, pixels = told["exif"], told["profile"], width * height * _MODES[mode]
    if exif + profile + pixels != len(rest):
        raise _refused(name, "", 0)
    image = Image.frombytes(mode, (width, height), rest[exif + profile :])
    if mode == "RGBa":
        image = image.convert("RGBA")
    image.info["exif"] = bytes(rest[:exif])
    with contextlib.suppress(*DAMAGE):  # the file's own turn counts, and the pixels are turned
        image.getexif().pop(_ORIENTATION_TAG, None)
    icc = bytes(rest[exif : exif + profile]) or _profile_of(told["primaries"])
    if icc:
        image.info["icc_profile"] = icc
    return image


def _profile_of(primaries: int) -> bytes:
    """Return an ICC profile of a color space by its number in H.273: sRGB's with other primaries, else nothing."""
    if primaries not in _PRIMARIES:
        return b""
    label, values = _PRIMARIES[primaries]
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = bytearray(plain.replace("sRGB built-in".encode("utf-16-be"), f"{label:13}".encode("utf-16-be")))
    for tag, at in zip((b"rXYZ", b"gXYZ", b"bXYZ"), (0, 3, 6), strict=True):
        entry = data.index(tag, 128)  # in the table of tags, after the header: name, offset, size
        place = int.from_bytes(data[entry + 4 : entry + 8], "big") + 8
        data[place : place + 12] = struct.pack(">3i", *(round(value * 65536) for value in values[at : at + 3]))
    return bytes(data)
