"""HEIC photos: read like all others, with the decoder in a process of its own that may crash, hang or be missing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared_model import folders, heic, images
from shared_model.errors import PictureError
from tests.shared_model.heic_files import (
    ALPHA,
    DEPTH,
    Item,
    auxc,
    box,
    build,
    coded,
    exif,
    grid,
    icc,
    imir,
    irot,
    ispe,
    nclx,
    sample,
)

ROOT = Path(__file__).resolve().parents[2]
RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 160, 60), (50, 70, 200), (220, 200, 60)
# Opens every file named and says what came of it and the most memory that a decoder has taken so far, in MB.
OPENER = """
import resource, sys
from shared_model import heic
from shared_model.errors import PictureError
for name in sys.argv[1:]:
    with open(name, "rb") as stream:
        try:
            heic.decode(stream, "it", max_pixels=100_000_000)
            said = "read"
        except PictureError as error:
            said = error.message
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10, said, flush=True)
"""
needs_decoder = pytest.mark.skipif(not heic.installed(), reason="pi-heif is not installed: pip install 'easel[heic]'")


def _corners(rgb: np.ndarray) -> list[list[int]]:
    """The four corners: top left, top right, bottom left, bottom right."""
    height, width = rgb.shape[:2]
    return [rgb[y, x].astype(int).tolist() for y in (5, height - 6) for x in (5, width - 6)]


def _near(found: list[list[int]], wanted: tuple[tuple[int, int, int], ...]) -> bool:
    return bool(np.abs(np.array(found) - np.array(wanted)).max() <= 20)


def _error(source: Path | bytes, **options: int) -> PictureError:
    with pytest.raises(PictureError) as caught:
        images.load_picture(source, **options)
    assert caught.value.hint and "\n" not in caught.value.message + caught.value.hint
    return caught.value


# ------------------------------------------------------------------------------ what phones write


@needs_decoder
def test_a_photo_in_tiles_is_read(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(sample("color"))
    for source in (tmp_path / "IMG_1.HEIC", sample("color")):
        picture = images.load_picture(source)
        assert picture.rgb.shape == (48, 64, 3) and picture.alpha is None and not picture.more
        assert _near(_corners(picture.rgb), (RED, GREEN, BLUE, YELLOW))
    wide = images.load_picture(_tiles(128, 64, ispe(128, 64))).rgb
    assert wide.shape == (64, 128, 3) and _near(_corners(wide), (RED, GREEN, BLUE, YELLOW))
    assert _near(_corners(wide[:, :64]), (RED, GREEN, BLUE, YELLOW))


@needs_decoder
def test_a_large_one_is_whole() -> None:
    """Its pixels are handed on while the decoder still holds them: freed too early, they are gone."""
    rgb = images.load_picture(sample("wide")).rgb
    assert rgb.shape == (1536, 2048, 3)
    assert np.abs(rgb.astype(int) - (100, 150, 50)).max() <= 3


@needs_decoder
def test_ten_bits_become_eight() -> None:
    rgb = images.load_picture(sample("ten")).rgb.astype(int)
    right, down = np.meshgrid(np.arange(64) * 1040 / 257, np.arange(48) * 1394 / 257)
    wanted = np.dstack([right, down, np.full_like(right, 30000 / 257)])
    assert np.abs(rgb - wanted)[2:-2, 2:-2].mean() < 4


@needs_decoder
def test_grey() -> None:
    rgb = images.load_picture(sample("grey")).rgb
    assert np.ptp(rgb, axis=2).max() == 0
    assert np.abs(rgb[20, :, 0].astype(int) - np.linspace(0, 255, 64)).mean() < 4


@needs_decoder
@pytest.mark.parametrize(
    ("turn", "wanted"),
    [
        (irot(0), (RED, GREEN, BLUE, YELLOW)),
        (irot(1), (GREEN, YELLOW, RED, BLUE)),
        (irot(2), (YELLOW, BLUE, GREEN, RED)),
        (irot(3), (BLUE, RED, YELLOW, GREEN)),
        (imir(0), (BLUE, YELLOW, RED, GREEN)),
        (imir(1), (GREEN, RED, YELLOW, BLUE)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_turn_of_the_file_counts_and_not_that_of_exif(
    turn: bytes, wanted: tuple[tuple[int, int, int], ...], orientation: int
) -> None:
    told = Image.Exif()
    told[0x0112] = orientation
    file = build([coded("color", turn), exif(told.tobytes()[6:])], references=[(b"cdsc", 2, [1])])
    assert _near(_corners(images.load_picture(file).rgb), wanted)


@needs_decoder
def test_a_turn_makes_height_of_width() -> None:
    tall = build(
        [grid(2, 1, 128, 64, irot(1)), coded("color", hidden=True), coded("color", hidden=True)],
        references=[(b"dimg", 1, [2, 3])],
    )
    assert images.load_picture(tall).rgb.shape == (128, 64, 3)


@needs_decoder
def test_tags_are_kept_and_the_place_as_ever() -> None:
    told = Image.Exif()
    told.update({0x0110: "iPhone", 0x0112: 6, 0x0132: "2024:05:06 07:08:09", 0xA431: "serial"})
    told.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 0.0)})
    tags = images.load_picture(build([coded("color"), exif(told.tobytes()[6:])], references=[(b"cdsc", 2, [1])])).tags
    assert tags is not None and tags.main == {0x0110: b"iPhone", 0x0132: b"2024:05:06 07:08:09"}
    assert tags.place[1] == "N"
    allowed = tags.allowed("safe")
    assert allowed is not None and not allowed.place


@needs_decoder
def test_damaged_exif_is_ignored() -> None:
    file = build([coded("color"), exif(b"MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 9)], references=[(b"cdsc", 2, [1])])
    assert _near(_corners(images.load_picture(file).rgb), (RED, GREEN, BLUE, YELLOW))


# ------------------------------------------------------------------------------ further pictures, alpha


@needs_decoder
def test_alpha_is_kept() -> None:
    extra = coded("grey", auxc(ALPHA), hidden=True)
    picture = images.load_picture(build([coded("color"), extra], references=[(b"auxl", 2, [1])]))
    assert picture.alpha is not None and not picture.more
    assert (
        np.abs(
            picture.alpha[
                20,
                :,
            ].astype(int)
            - np.linspace(0, 255, 64)
        ).mean()
        < 4
    )
    assert _near(_corners(picture.rgb), (RED, GREEN, BLUE, YELLOW))


@needs_decoder
@pytest.mark.parametrize("kind", [b"auxl", b"thmb"])
def test_depth_maps_and_thumbnails_are_no_pictures(kind: bytes) -> None:
    properties = (auxc(DEPTH),) if kind == b"auxl" else ()
    extra = coded("grey", *properties, hidden=True)
    picture = images.load_picture(build([coded("color"), extra], references=[(kind, 2, [1])]))
    assert picture.alpha is None and not picture.more
    assert _near(_corners(picture.rgb), (RED, GREEN, BLUE, YELLOW))


@needs_decoder
@pytest.mark.parametrize("primary", [1, 2])
def test_of_several_the_main_one_is_taken_and_it_is_said(primary: int) -> None:
    picture = images.load_picture(build([coded("color"), coded("grey")], primary=primary))
    assert picture.more
    assert (np.ptp(picture.rgb, axis=2).max() == 0) == (primary == 2)


@needs_decoder
def test_where_the_main_one_is_damaged_no_other_is_shown() -> None:
    broken = Item(b"hvc1", b"x" * 40, (ispe(64, 64),))
    assert "damaged" in _error(build([coded("color"), broken], primary=2)).message


# ------------------------------------------------------------------------------ color


@needs_decoder
def test_a_color_profile_is_converted_and_kept() -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = plain.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    picture = images.load_picture(build([coded("color", icc(swapped))]))
    assert picture.tags is not None and picture.tags.profile == swapped
    assert picture.rgb[60, 5, 0] > 150 > 90 > picture.rgb[60, 5, 2]  # in that profile, the blue number means red


@needs_decoder
@pytest.mark.parametrize(
    ("primaries", "matrix"),
    [
        (12, [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]),  # Display P3 to sRGB
        (9, [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),  # Rec. 2020
    ],
)
def test_a_color_space_named_by_number_is_converted(primaries: int, matrix: list[list[float]]) -> None:
    stored = images.load_picture(build([coded("color", nclx(1))])).rgb
    found = images.load_picture(build([coded("color", nclx(primaries))]))
    values = stored.astype(float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ np.array(matrix).T
    linear = linear.clip(0, 1)
    wanted = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(found.rgb - wanted).max() <= 3
    assert np.abs(found.rgb - stored.astype(int)).max() > 10
    assert found.tags is not None and found.tags.profile
    assert "sRGB" not in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(found.tags.profile)))


# ------------------------------------------------------------------------------ hostile files


def _metadata_bomb() -> bytes:
    """A small file of 900 items that are all the same 4 MB: more than 3 GB, if they are all copied."""
    pixels, text = coded("color"), Item(b"Exif", bytes(4 << 20), hidden=True)
    again = [Item(b"Exif", hidden=True, span=(len(pixels.data), len(text.data)))] * 900
    items = [pixels, text, *again]
    return build(items, references=[(b"cdsc", number, [1]) for number in range(2, len(items) + 1)])


def _tiles(width: int, height: int, claimed: bytes) -> bytes:
    table = Item(b"grid", grid(2, 1, width, height).data, (claimed,))
    tiles = [coded("color", hidden=True)] * 2
    return build([table, *tiles], references=[(b"dimg", 1, [2, 3])])


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "huge": (lambda: build([coded("color", size=ispe(60_000, 60_000))]), "more than 100,000,000 pixels"),
    "huge tiles": (lambda: _tiles(60_000, 60_000, ispe(60_000, 60_000)), "more than 100,000,000 pixels"),
    "lying tiles": (lambda: _tiles(60_000, 60_000, ispe(64, 64)), "damaged"),
    "empty tiles": (lambda: _tiles(9_900, 9_900, ispe(9_900, 9_900)), "damaged"),
    "lying size": (lambda: build([coded("wide", size=ispe(64, 64))]), "damaged"),
    "small claim": (lambda: build([coded("color", size=ispe(9_900, 9_900))]), "damaged"),
    "metadata": (_metadata_bomb, ""),
    "itself": (lambda: build([grid(1, 1, 64, 64)], references=[(b"dimg", 1, [1])]), "damaged"),
}


@needs_decoder
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    names = []
    for number, (make, _) in enumerate(BOMBS.values()):
        names.append(str(tmp_path / f"{number}.heic"))
        Path(names[-1]).write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", OPENER, *names], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for line, (name, (_, wanted)) in zip(said, BOMBS.items(), strict=True):
        assert wanted in line and int(line.split()[0]) < 450, (name, line)


@needs_decoder
def test_a_file_that_ends_the_decoder_is_one_line() -> None:
    """pi-heif 1.4.0 looks at nothing where an item's type is no UTF-8: found by fuzzing."""
    deadly = build([coded("color"), Item(b"\xff\xfe\xfd\0", b"text")], references=[(b"cdsc", 2, [1])])
    assert "damaged" in _error(deadly).message


@needs_decoder
@pytest.mark.parametrize("name", ["color", "ten"])
def test_cut_off_or_changed_it_is_a_picture_or_one_line(name: str) -> None:
    whole, rng = sample(name), np.random.default_rng(4)
    files = [whole[:end] for end in rng.integers(12, len(whole), 15).tolist()]
    for _ in range(25):
        data = bytearray(whole)
        for at in rng.integers(8, 600, 3).tolist():
            data[at] = int(rng.integers(0, 256))
        files.append(bytes(data))
    refused = 0
    for data in files:
        try:
            assert images.load_picture(data, max_pixels=1_000_000).rgb.dtype == np.uint8
        except PictureError as error:
            assert error.hint and "\n" not in error.message + error.hint
            refused += 1
    assert refused >= 15


@needs_decoder
def test_what_libheif_does_not_decode_is_said() -> None:
    av1 = Item(b"av01", b"x" * 40, (ispe(64, 64), box(b"av1C", b"\x81\0\0\0")))
    assert "JPEG" in _error(build([av1])).hint


@needs_decoder
def test_one_pixel_too_many() -> None:
    assert images.load_picture(sample("color"), max_pixels=64 * 48).rgb.size
    assert "pixels" in _error(sample("color"), max_pixels=64 * 48 - 1).message


# ------------------------------------------------------------------------------ the process


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "damaged"),
        ("raise SystemExit(1)", "damaged"),
        ("pass", "damaged"),
        ("print('{}')", "damaged"),
        ('print(\'{"size": [9, 9], "mode": "RGB", "several": false, "exif": 0, "profile": 0}\')', "damaged"),
        ("import time; time.sleep(60)", "longer than 1 s"),
        ('print(\'{"refused": "import"}\'); raise SystemExit(1)', "does not start"),
        ('print(\'{"refused": "memory"}\'); raise SystemExit(1)', "memory"),
    ],
)
def test_whatever_the_decoder_does_it_is_one_line(script: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "installed", lambda: True)
    monkeypatch.setattr(heic, "_PATIENCE_S", 1.0)
    with pytest.raises(PictureError, match=wanted) as caught:
        heic.decode(io.BytesIO(b"x"), "it", max_pixels=100, command=[sys.executable, "-c", script])
    assert caught.value.hint and "\n" not in caught.value.message


def test_no_process_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "installed", lambda: True)
    with pytest.raises(PictureError, match="cannot be decoded"):
        heic.decode(io.BytesIO(b"x"), "it", max_pixels=100, command=["/no/such/python"])
    monkeypatch.setattr(heic, "_LARGEST_FILE", 3)
    with pytest.raises(PictureError, match="more than"):
        heic.decode(io.BytesIO(b"1234"), "it", max_pixels=100)


def test_easel_paints_no_heic_so_none_is_decoded_to_look_for_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.heic").write_bytes(sample("color"))
    monkeypatch.setattr(heic, "decode", lambda *_, **__: pytest.fail("decoded"))
    assert images.read_settings(tmp_path / "a.heic") == {}


# ------------------------------------------------------------------------------ without pi-heif


def test_without_it_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "installed", lambda: False)
    error = _error(sample("color"))
    assert "HEIC" in error.message and "easel[heic]" in error.hint and "JPEG" in error.hint


@pytest.mark.parametrize("there", [True, False])
def test_folders_are_searched_for_what_can_be_read(there: bool) -> None:
    if there and not heic.installed():
        pytest.skip("pi-heif is not installed")
    hidden = "" if there else "sys.modules['pi_heif'] = None; "
    code = f"import sys; {hidden}from shared_model import folders; print('.heic' in folders.SUFFIXES)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == str(there)
    assert images.SUFFIXES == folders.SUFFIXES


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1heix", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc", True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", False),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", False),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", False),
        (b"\xff\xd8\xff\xe0heic", False),
        (b"", False),
    ],
)
def test_what_is_heic(head: bytes, wanted: bool) -> None:
    assert heic.is_heic(head) is wanted
