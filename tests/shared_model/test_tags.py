"""Tests of `shared_model.tags`: what of a photo's file reaches its painting's."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared_model import images
from shared_model.tags import POLICIES, Tags, read_tags

RAMP = np.stack(
    np.broadcast_arrays(
        np.linspace(20, 235, 24, dtype=np.uint8)[None], np.linspace(20, 235, 16, dtype=np.uint8)[:, None], np.uint8(90)
    ),
    axis=-1,
)


def photo_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    exif[0x010F] = "Camera maker"
    exif[0x013B] = "Käthe".encode()  # cameras and tools write UTF-8
    shot = exif.get_ifd(0x8769)
    shot[0x9003] = "2024:05:06 07:08:09"
    shot[0x829A] = 0.01
    shot[0x927C] = b"maker note"
    shot[0xA431] = "serial 1234"
    place = exif.get_ifd(0x8825)
    place[1], place[2] = "N", (52.0, 31.0, 0.0)
    return exif


def stored(kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RAMP).save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def passed_on(data: bytes, *, suffix: str, policy: str = "safe", settings: dict[str, object] | None = None) -> bytes:
    """Load a photo and save it as its own painting."""
    picture = images.load_picture(data)
    assert picture.tags is not None
    return images.encode_picture(
        picture.rgb, suffix=suffix, alpha=picture.alpha, settings=settings, tags=picture.tags.allowed(policy)
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_date_camera_and_author_stay_place_and_serials_go(suffix: str) -> None:
    data = passed_on(stored(exif=photo_exif()), suffix=suffix, settings={"seed": 3})
    exif = Image.open(io.BytesIO(data)).getexif()
    shot = exif.get_ifd(0x8769)
    assert (exif[0x010F], exif[0x013B].encode("latin-1").decode()) == ("Camera maker", "Käthe")
    assert shot[0x9003] == "2024:05:06 07:08:09" and float(shot[0x829A]) == pytest.approx(0.01)
    assert not exif.get_ifd(0x8825) and 0x927C not in shot and 0xA431 not in shot
    assert exif.get(0x0112, 1) == 1
    assert b"serial 1234" not in data and b"maker note" not in data


@pytest.mark.parametrize(("policy", "author", "place"), [("none", False, False), ("safe", True, False),
                                                         ("place", True, True)])  # fmt: skip
def test_the_place_is_kept_only_when_asked_for(policy: str, author: bool, place: bool) -> None:
    exif = Image.open(io.BytesIO(passed_on(stored(exif=photo_exif()), suffix=".jpg", policy=policy))).getexif()
    assert (0x013B in exif) == author
    assert bool(exif.get_ifd(0x8825)) == place
    if place:
        assert [float(v) for v in exif.get_ifd(0x8825)[2]] == [52.0, 31.0, 0.0]


@pytest.mark.parametrize("suffix", images.SAVE_SUFFIXES)
def test_tags_and_settings_live_side_by_side(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(passed_on(stored(exif=photo_exif()), suffix=suffix, settings={"seed": 3}))
    assert images.read_settings(path) == {"seed": 3}
    assert images.load_picture(path).rgb.shape == (24, 16, 3)  # turned once, not twice
    with Image.open(path) as image:
        assert image.getexif()[0x010F] == "Camera maker"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize(("dpi", "kept"), [((300, 300), True), ((90, 300), False), ((65000, 65000), False)])
def test_pixels_an_inch_stay_if_a_printer_knows_them(suffix: str, dpi: tuple[int, int], kept: bool) -> None:
    data = stored(dpi=dpi)
    found = Image.open(io.BytesIO(passed_on(data, suffix=suffix))).info.get("dpi", (0, 0))
    assert (max(found) == pytest.approx(dpi[0], abs=0.1)) == kept
    assert Image.open(io.BytesIO(passed_on(data, suffix=suffix, policy="none"))).info.get("dpi") != dpi


def test_an_unknown_policy_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="policy"):
        Tags().allowed("everything")
    assert set(POLICIES) == {"none", "safe", "place"}


@pytest.mark.parametrize("value", ["x" * 501, b"x" * 501, tuple(range(9)), {"a": 1}])
def test_what_no_camera_writes_is_left_out(value: object) -> None:
    image = Image.fromarray(RAMP)
    image.getexif()[0x013B] = value
    assert read_tags(image).main == {}


def wide_profile() -> bytes:
    """A profile with the primaries and the gamma of Adobe RGB (1998), made from their numbers."""

    def fixed(values: tuple[float, ...]) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    white = (0.9642, 1.0, 0.8249)
    points = {b"wtpt": white, b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087),
              b"bXYZ": (0.14919, 0.06322, 0.74457)}  # fmt: skip
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(2.2 * 256), 0)
    entries = {tag: b"XYZ \0\0\0\0" + fixed(point) for tag, point in points.items()}
    entries |= {tag: curve for tag in (b"rTRC", b"gTRC", b"bTRC")}
    entries[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(79)
    entries[b"cprt"] = b"text\0\0\0\0CC0\0"
    table, body, start = b"", b"", 132 + 12 * len(entries)
    for tag, value in entries.items():
        table += tag + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(
        ">I4s4s12s6H4s28s", start + len(body), b"", b"\2\x10", b"mntrRGB XYZ ", 2024, 1, 1, 0, 0, 0, b"acsp", b""
    )
    return head + fixed(white) + bytes(48) + struct.pack(">I", len(entries)) + table + body


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_wide_profile_is_kept_and_colors_stay_what_they_were(suffix: str) -> None:
    profile = wide_profile()
    seen = images.load_picture(stored("PNG", icc_profile=profile))
    assert np.abs(seen.rgb.astype(int) - RAMP).max() > 8, "the profile changes what the numbers mean"
    data = passed_on(stored("PNG", icc_profile=profile), suffix=suffix)
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == profile
    again = images.load_picture(data)
    off = np.abs(again.rgb.astype(int) - seen.rgb)
    assert off.mean() < 4 if suffix in (".jpg", ".webp") else off.mean() < 0.5 and off.max() <= 8


def test_a_wide_profile_and_transparency_together() -> None:
    rgba = np.dstack([RAMP, np.full(RAMP.shape[:2], 60, np.uint8)])
    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, "PNG", icc_profile=wide_profile())
    again = images.load_picture(passed_on(stream.getvalue(), suffix=".png"))
    assert again.alpha is not None and int(again.alpha.min()) == int(again.alpha.max()) == 60


def test_a_profile_of_another_kind_or_a_broken_one_is_not_carried_on() -> None:
    grey = io.BytesIO()
    Image.fromarray(RAMP).convert("L").save(grey, "PNG", icc_profile=b"no profile")
    assert images.load_picture(grey.getvalue()).tags == Tags()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert images.load_picture(stored("PNG", icc_profile=lab)).tags == Tags()


def test_damaged_exif_leaves_no_tags() -> None:
    data = stored(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 9)
    assert images.load_picture(data).tags is not None
    assert passed_on(data, suffix=".jpg")
