"""Reading with `shared_model.images`: every mode, orientation, profile; bad input."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shared_model import images
from shared_model.errors import PictureError
from tests.shared_model.files import encoded, noise


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# ------------------------------------------------------------------------------ modes


def test_rgb_is_unchanged() -> None:
    rgb = noise(7, 5)
    picture = images.load_picture(encoded(Image.fromarray(rgb)))
    assert np.array_equal(picture.rgb, rgb)
    assert picture.alpha is None


def test_grey_and_one_bit_become_three_equal_channels() -> None:
    grey = noise(6, 4, channels=1)
    assert np.array_equal(images.load_picture(encoded(Image.fromarray(grey))).rgb, np.dstack([grey] * 3))
    bits = Image.fromarray(grey).convert("1")
    loaded = images.load_picture(encoded(bits)).rgb
    assert np.array_equal(loaded[..., 0], np.array(bits).astype(np.uint8) * 255)


def test_alpha_is_kept_and_dropped_where_all_is_opaque() -> None:
    rgba = noise(6, 4, channels=4)
    picture = images.load_picture(encoded(Image.fromarray(rgba)))
    assert np.array_equal(picture.rgb, rgba[..., :3])
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, rgba[..., 3])
    rgba[..., 3] = 255
    assert images.load_picture(encoded(Image.fromarray(rgba))).alpha is None


def test_grey_with_alpha() -> None:
    two = noise(6, 4, channels=2)
    picture = images.load_picture(encoded(Image.fromarray(two, mode=None)))
    assert np.array_equal(picture.rgb[..., 1], two[..., 0])
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, two[..., 1])


def test_palette_with_a_transparent_color() -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    picture = images.load_picture(encoded(image, transparency=0))
    assert picture.rgb[1, 1].tolist() == [200, 100, 50]
    assert picture.alpha is not None
    assert picture.alpha[0, 0] == 0
    assert picture.alpha[1, 1] == 255


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_jpeg_color_modes(mode: str) -> None:
    rgb = np.full((16, 16, 3), (200, 60, 30), dtype=np.uint8)
    data = encoded(Image.fromarray(rgb).convert(mode), "JPEG", quality=95)
    assert np.abs(images.load_picture(data).rgb.astype(int) - rgb).max() <= 6


def test_cmyk_written_inverted_by_adobe() -> None:
    plain = Image.new("CMYK", (16, 16), (0, 200, 100, 20))
    data = encoded(plain, "JPEG", quality=95)  # Pillow writes Adobe's inverted form with its marker
    assert b"Adobe" in data
    expected = np.array(plain.convert("RGB"))
    assert np.abs(images.load_picture(data).rgb.astype(int) - expected).max() <= 4


def test_lab_tiff() -> None:
    lab = Image.new("LAB", (4, 4), (128, 128, 128))
    loaded = images.load_picture(encoded(lab, "TIFF")).rgb
    assert loaded.shape == (4, 4, 3)
    assert np.ptp(loaded[0, 0].astype(int)) < 40


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 32768], [40000, 65278, 65535]], dtype=np.uint16)
    loaded = images.load_picture(encoded(Image.fromarray(values), kind)).rgb[..., 0]
    assert loaded.tolist() == [[0, 1, 128], [156, 254, 255]]


def test_sixteen_bit_grey_png_with_a_transparent_value() -> None:
    rows = b"".join(b"\0" + struct.pack(">2H", *row) for row in [(0, 1000), (1000, 65535)])
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 0, 0, 0, 0))
    body = _png_chunk(b"tRNS", struct.pack(">H", 1000)) + _png_chunk(b"IDAT", zlib.compress(rows))
    picture = images.load_picture(b"\x89PNG\r\n\x1a\n" + header + body + _png_chunk(b"IEND", b""))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0], [0, 255]]
    assert picture.rgb[1, 1].tolist() == [255] * 3


def test_sixteen_bit_color_png() -> None:
    rows = b"\0" + struct.pack(">3H", 65535, 32896, 0)
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(rows)) + _png_chunk(b"IEND", b"")
    assert images.load_picture(data).rgb.tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 0.5, 1.0]], [[0, 128, 255]]),
        ([[0.0, 100.0, 255.0]], [[0, 100, 255]]),
        ([[0.0, 32768.0, 65535.0]], [[0, 128, 255]]),
        ([[-1.0, 0.0, 1.0]], [[0, 128, 255]]),
        ([[0.0, 5e5, 1e6]], [[0, 128, 255]]),
        ([[float("nan"), 0.0, 1.0]], [[0, 0, 255]]),
        ([[0.0, 0.0, 0.0]], [[0, 0, 0]]),
    ],
)
def test_floating_point_tiff(values: list[list[float]], expected: list[list[int]]) -> None:
    data = encoded(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF")
    assert images.load_picture(data).rgb[..., 0].tolist() == expected


def test_thirty_two_bit_integers() -> None:
    data = encoded(Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.int32)), "TIFF")
    assert images.load_picture(data).rgb[..., 0].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_animation_gives_its_first_frame_and_says_so(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in [(255, 0, 0), (0, 0, 255)]]
    picture = images.load_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert picture.rgb[4, 4].tolist() == pytest.approx([255, 0, 0], abs=4) and picture.more
    assert not images.load_picture(encoded(frames[0], kind)).more


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "JPEG2000", "PPM"])
def test_further_formats(kind: str) -> None:
    rgb = np.full((16, 12, 3), (200, 100, 50), dtype=np.uint8)
    loaded = images.load_picture(encoded(Image.fromarray(rgb), kind)).rgb
    assert np.abs(loaded.astype(int) - rgb).max() <= 8


# ------------------------------------------------------------------------ orientation, profiles


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = np.zeros((32, 48, 3), dtype=np.uint8)
    upright[:16, :16] = 255  # top left corner is white
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Image.Transpose that turns it away
    stored = Image.fromarray(upright)
    stored = stored if undo is None else stored.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = images.load_picture(encoded(stored, kind, exif=exif)).rgb
    assert loaded.shape == upright.shape
    assert np.abs(loaded.astype(int) - upright).mean() < 3


def test_damaged_exif_is_ignored() -> None:
    rgb = np.full((8, 8, 3), 90, dtype=np.uint8)
    data = encoded(Image.fromarray(rgb), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 9)
    assert np.abs(images.load_picture(data).rgb.astype(int) - 90).max() <= 2


def test_profile_is_converted_to_srgb() -> None:
    stored = Image.new("RGB", (4, 4), (0, 0, 255))
    swapped = _swapped_profile()
    loaded = images.load_picture(encoded(stored, icc_profile=swapped)).rgb[0, 0]
    assert loaded[0] > 200 > 60 > loaded[2]  # in that profile, the blue number means red


def test_grey_profile_is_not_applied_to_color() -> None:
    rgb = noise(4, 4)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(images.load_picture(encoded(Image.fromarray(rgb), icc_profile=lab)).rgb, rgb)


def test_broken_profile_is_ignored() -> None:
    rgb = noise(4, 4)
    assert np.array_equal(images.load_picture(encoded(Image.fromarray(rgb), icc_profile=b"no profile")).rgb, rgb)


def _swapped_profile() -> bytes:
    """Return sRGB's profile with the red and blue primaries exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert b"rXYZ" in profile
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


# ------------------------------------------------------------------------------ bad input


def _load_error(source: Path | str | bytes, **options: int) -> PictureError:
    with pytest.raises(PictureError) as caught:
        images.load_picture(source, **options)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in _load_error(tmp_path / "none.png").message


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert "folder" in _load_error(tmp_path).message


def test_pipe_instead_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "ordinary" in _load_error(tmp_path / "pipe.png").message


def test_impossible_path() -> None:
    assert "cannot read" in _load_error("a\0b.png").message


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert "empty" in _load_error(tmp_path / "empty.jpg").message
    assert "empty" in _load_error(b"").message


def test_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello, this is no picture")
    assert "not a picture" in _load_error(tmp_path / "text.jpg").message


def test_damaged_avif_and_videos_say_what_to_do() -> None:
    assert "JPEG" in _load_error(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif").hint
    assert "CLIP.mp4" in _load_error(b"\0\0\0\x18ftypisom\0\0\0\0isomiso2").hint


def test_postscript_is_refused() -> None:
    assert "not a picture" in _load_error(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n").message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "BMP"])
def test_cut_off_file(kind: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    assert "damaged" in _load_error(data[: len(data) // 2]).message


@pytest.mark.parametrize("side", [20_000, 9_800, 2_000_000])  # refused by Pillow, only warned of, absurd
def test_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert "90,000,000 pixels" in _load_error(bomb, max_pixels=90_000_000).message


def test_pixel_limit_is_inclusive() -> None:
    data = encoded(Image.fromarray(noise(10, 10)))
    assert images.load_picture(data, max_pixels=100).rgb.shape == (10, 10, 3)
    assert "more than 99 pixels" in _load_error(data, max_pixels=99).message


def test_importing_leaves_pillow_as_it_was() -> None:
    assert Image.MAX_IMAGE_PIXELS == (1024 * 1024 * 1024 // 4 // 3)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP"]), st.integers(0, 10**6), st.integers(1, 40))
def test_damaged_bytes_give_a_picture_or_a_picture_error(kind: str, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind in ("GIF", "BMP") else {"exif": exif, "icc_profile": _swapped_profile()}
    data = bytearray(encoded(Image.fromarray(noise(20, 30)), kind, **options))
    for position in rng.integers(0, len(data), count):
        data[position] = rng.integers(0, 256)
    try:
        picture = images.load_picture(bytes(data), max_pixels=10**6)
    except PictureError as error:
        assert error.hint
    else:
        assert picture.rgb.dtype == np.uint8
        assert picture.rgb.shape[2] == 3


def test_a_folder_that_is_closed_is_told_and_one_inside_of_it_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    look, closed = os.scandir, {str(tmp_path / "inner")}

    def scan(path: str) -> object:
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert images.find_pictures([tmp_path]) == [tmp_path / "a.png"]
    closed.add(str(tmp_path))
    with pytest.raises(PictureError, match="Permission denied"):
        images.find_pictures([tmp_path])
