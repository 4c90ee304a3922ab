"""What a picture file says beside its pixels: kept where it helps the owner, left out where it gives them away.

=====================================  ==============================================================
kept                                   capture date, camera, lens, exposure, author, copyright, caption,
                                       pixels an inch
kept when asked for                    the place (GPS)
never kept                             serial numbers, maker notes, thumbnails, edit histories, anything else
=====================================  ==============================================================

The color profile is kept too: pixels are painted in sRGB and converted back into it. The orientation is
not: pixels are upright. Values of other types or lengths than a camera writes are left out, so a
crafted file carries nothing on.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

__all__ = ["DAMAGE", "POLICIES", "Tags", "embedded", "from_srgb", "read_comment", "read_tags", "to_srgb"]

POLICIES = ("none", "safe", "place")

# What Pillow's decoders raise on damaged bytes (found by fuzzing; most are plain OSError or SyntaxError).
DAMAGE = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, struct.error, SyntaxError,
          TypeError, ValueError, zlib.error)  # fmt: skip
_EXIF_TAG, _PLACE_TAG, _COMMENT_TAG = 0x8769, 0x8825, 0x9286
_COMMENT_PREFIX = b"ASCII\0\0\0"
# Caption, make, model, date, artist, copyright.
_MAIN = frozenset({0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298})
# Exposure, aperture, program, ISO, dates and their offsets, bias, metering, flash, focal length, lens.
_SHOT = frozenset({0x829A, 0x829D, 0x8822, 0x8827, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9201, 0x9202, 0x9204,
                   0x9207, 0x9209, 0x920A, 0x9290, 0x9291, 0x9292, 0xA405, 0xA433, 0xA434})  # fmt: skip
_PLACE = frozenset(range(32))
_LONGEST_TEXT, _LONGEST_LIST, _LARGEST_PROFILE = 500, 8, 1 << 20
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}


@dataclass(frozen=True)
class Tags:
    """What is known of a photo besides its pixels.

    Attributes
    ----------
    main, shot, place
        EXIF values by tag: of the picture, of the exposure, and where it was taken.
    profile
        An RGB color profile (ICC) that pixels can be converted into; empty for sRGB.
    dpi
        Pixels an inch, for print; 0 where the file does not say.
    """

    main: Mapping[int, Any] = field(default_factory=dict)
    shot: Mapping[int, Any] = field(default_factory=dict)
    place: Mapping[int, Any] = field(default_factory=dict)
    profile: bytes = b""
    dpi: float = 0.0

    def allowed(self, policy: str) -> Tags | None:
        """Return what ``policy``, one of `POLICIES`, lets through.

        Raises
        ------
        ValueError
            If the policy is unknown.
        """
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if policy == "none":
            return None
        return self if policy == "place" else replace(self, place={})


def read_tags(image: Image.Image) -> Tags:
    """Read the tags of an opened picture; damaged ones are left out."""
    main: dict[int, Any] = {}
    shot: dict[int, Any] = {}
    place: dict[int, Any] = {}
    with contextlib.suppress(*DAMAGE):
        exif = image.getexif()
        main = {tag: _raw(value) for tag, value in _plain(exif, _MAIN).items()}
        shot = _plain(exif.get_ifd(_EXIF_TAG), _SHOT)
        place = _plain(exif.get_ifd(_PLACE_TAG), _PLACE)
    return Tags(main, shot, place, _usable(image.info.get("icc_profile")), _density(image.info.get("dpi")))


def read_comment(image: Image.Image) -> object:
    """Return what :func:`embedded` put under ``easel``; ``{}`` if it is nothing of ours."""
    try:
        text = image.info.get("easel")
        if text is None:
            exif = image.getexif()
            tags = exif if image.format == "TIFF" else exif.get_ifd(_EXIF_TAG)
            text = bytes(tags.get(_COMMENT_TAG, b"")).removeprefix(_COMMENT_PREFIX)
        return json.loads(text)["easel"]
    except DAMAGE:
        return {}


def embedded(settings: Mapping[str, object] | None, tags: Tags | None, kind: str) -> dict[str, Any]:
    """Return Pillow's save options that embed settings and tags; ASCII JSON survives every format and tool."""
    options: dict[str, Any] = {}
    exif = Image.Exif()
    tags = tags or Tags()
    exif.update(tags.main)
    nested = exif if kind == "TIFF" else exif.get_ifd(_EXIF_TAG)  # Pillow writes no nested tags into a TIFF
    if kind != "TIFF":
        nested.update(tags.shot)
        if tags.place:
            exif.get_ifd(_PLACE_TAG).update(tags.place)
    if settings is not None:
        text = json.dumps({"easel": dict(settings)}, sort_keys=True)
        if kind == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("easel", text)
        else:
            nested[_COMMENT_TAG] = _COMMENT_PREFIX + text.encode("ascii")
    if len(exif) or len(exif.get_ifd(_EXIF_TAG)):
        options["exif"] = exif
    if tags.profile:
        options["icc_profile"] = tags.profile
    if tags.dpi and kind != "WEBP":  # which has no place for it
        options["dpi"] = (tags.dpi, tags.dpi)
    return options


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert from an embedded profile (perceptual intent); without a usable one, by Pillow's plain rules."""
    if isinstance(profile, bytes) and profile:
        with contextlib.suppress(ImageCms.PyCMSError, *DAMAGE):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space == _SPACES[image.mode]:
                target = ImageCms.createProfile("sRGB")
                intent = ImageCms.Intent.PERCEPTUAL
                converted = ImageCms.profileToProfile(image, source, target, renderingIntent=intent, outputMode="RGB")
                if converted is not None:
                    return converted
    return image.convert("RGB")


def from_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an ``RGB`` image from sRGB into ``profile``, which :func:`read_tags` has found usable."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), target, renderingIntent=intent, outputMode="RGB"
    )
    return image if converted is None else converted


def _usable(profile: object) -> bytes:
    """Return an RGB profile that can be converted into, else nothing."""
    if isinstance(profile, bytes) and 0 < len(profile) <= _LARGEST_PROFILE:
        with contextlib.suppress(ImageCms.PyCMSError, *DAMAGE):
            if ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space == _SPACES["RGB"]:
                from_srgb(Image.new("RGB", (1, 1)), profile)
                return profile
    return b""


def _density(dpi: object) -> float:
    """Return the density that a file names, the same both ways, if it is one that a printer knows."""
    with contextlib.suppress(*DAMAGE):
        across, down = (float(number) for number in dpi)  # type: ignore[attr-defined]
        if abs(across - down) < 1 and 1 <= across <= 10_000:
            return round(across, 2)
    return 0.0


def _plain(values: Mapping[int, Any], known: frozenset[int]) -> dict[int, Any]:
    return {tag: value for tag, value in values.items() if tag in known and _is_plain(value)}


def _raw(value: Any) -> Any:
    """Return a text as the bytes that it was: Pillow reads them as Latin-1 and would write them as ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def _is_plain(value: object) -> bool:
    """Short texts, numbers, and a few of them: what a camera writes."""
    if isinstance(value, (str, bytes)):
        return len(value) <= _LONGEST_TEXT
    if isinstance(value, tuple):
        return len(value) <= _LONGEST_LIST and all(_is_plain(item) for item in value)
    return isinstance(value, (int, float, TiffImagePlugin.IFDRational))
