"""Saving and finding pictures, and pictures as tensors, with `shared_model.images`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared_model import folders, images
from shared_model.errors import InputError, PictureError, StorageError
from tests.shared_model.files import encoded, noise


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.sampled_from([".png", ".PNG", ".tif", ".tiff"]))
def test_lossless_formats_return_the_same_pixels(height: int, width: int, with_alpha: bool, suffix: str) -> None:
    rgba = noise(height, width, channels=4, seed=height)
    rgba[0, 0, 3] = 7
    alpha = rgba[..., 3] if with_alpha else None
    picture = images.load_picture(images.encode_picture(rgba[..., :3], suffix=suffix, alpha=alpha))
    assert np.array_equal(picture.rgb, rgba[..., :3])
    assert (picture.alpha is None) != with_alpha
    assert picture.alpha is None or np.array_equal(picture.alpha, rgba[..., 3])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_close(suffix: str) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    rgb = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], ramp[None, ::-1]), axis=-1)
    loaded = images.load_picture(images.encode_picture(rgb, suffix=suffix)).rgb
    assert np.abs(loaded.astype(int) - rgb).mean() < 3


def test_jpeg_gets_alpha_on_white_and_webp_keeps_it() -> None:
    rgb = np.full((16, 16, 3), 100, dtype=np.uint8)
    alpha = np.zeros((16, 16), dtype=np.uint8)
    alpha[8:] = 255
    flat = images.load_picture(images.encode_picture(rgb, suffix=".jpg", alpha=alpha))
    assert flat.alpha is None
    assert flat.rgb[0, 0].min() > 250
    assert abs(int(flat.rgb[-1, -1, 0]) - 100) < 4
    kept = images.load_picture(images.encode_picture(rgb, suffix=".webp", alpha=alpha))
    assert kept.alpha is not None
    assert np.array_equal(kept.alpha, alpha)


@pytest.mark.parametrize("suffix", ["", ".gif", ".heic", ".png.exe"])
def test_unsupported_suffix_lists_the_supported(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        images.save_picture(tmp_path / f"out{suffix}", noise(4, 4))
    assert ".png" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_wrong_arrays_are_a_programming_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        images.encode_picture(np.zeros(shape, dtype=np.uint8), suffix=".png")


def test_picture_too_wide_for_the_format() -> None:
    with pytest.raises(InputError) as caught:
        images.encode_picture(np.zeros((1, 70_000, 3), dtype=np.uint8), suffix=".jpg")
    assert ".png" in caught.value.hint


@pytest.mark.parametrize("suffix", images.SAVE_SUFFIXES)
def test_settings_survive(suffix: str, tmp_path: Path) -> None:
    wanted = {"head": "Käthe 🎨 \udcff\n", "strength": 0.5, "mix": {"a": [1, 2]}, "none": None}
    path = images.save_picture(tmp_path / f"out{suffix}", noise(16, 16), settings=wanted)
    assert images.read_settings(path) == wanted
    assert images.load_picture(path).rgb.shape == (16, 16, 3)


def test_settings_of_a_stranger_are_empty(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0my holiday"
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(noise(8, 8)), "JPEG", exif=exif))
    (tmp_path / "b.png").write_bytes(encoded(Image.fromarray(noise(8, 8))))
    assert images.read_settings(tmp_path / "a.jpg") == {}
    assert images.read_settings(tmp_path / "b.png") == {}


def test_settings_too_large_for_jpeg() -> None:
    with pytest.raises(InputError):
        images.encode_picture(noise(8, 8), suffix=".jpg", settings={"text": "x" * 70_000})


def test_full_disk_leaves_the_old_file_and_no_half_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = images.save_picture(tmp_path / "out.png", noise(8, 8))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        images.save_picture(path, noise(9, 9))
    assert "full" in caught.value.hint
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.png"]


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folder_is_searched_in_natural_order(tmp_path: Path) -> None:
    _touch(tmp_path, "p10.jpg", "p2.JPG", "sub/a.png", "notes.txt", ".hidden.png", ".git/x.png", "sub/.cache/y.png")
    found = images.find_pictures([tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["p2.JPG", "p10.jpg", "sub/a.png"]


def test_patterns_and_files_are_unique(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "b.jpg", "c.txt", "sub/d.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    found = images.find_pictures([tmp_path / "a.png", f"{tmp_path}/*.png", f"{tmp_path}/**/*", str(tmp_path / "c.txt")])
    assert [path.name for path in found] == ["a.png", "b.jpg", "c.txt", "d.png"]  # c.txt was given by name


def test_brackets_in_a_real_name(tmp_path: Path) -> None:
    _touch(tmp_path, "photo [1].jpg")
    assert images.find_pictures([tmp_path / "photo [1].jpg"]) == [tmp_path / "photo [1].jpg"]


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _touch(tmp_path, "a.png")
    assert images.find_pictures(["~/a.png"]) == [tmp_path / "a.png"]


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        images.find_pictures([tmp_path / "gone.png"])
    assert "does not exist" in caught.value.message


@pytest.mark.parametrize("items", [[], [""], ["*.png"]])
def test_nothing_found(items: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        images.find_pictures([str(tmp_path / item) for item in items])
    assert "no pictures" in caught.value.message


@given(st.lists(st.text(alphabet="ab019²٣.", min_size=1, max_size=8), max_size=6))
def test_natural_order_never_fails(names: list[str]) -> None:
    ordered = sorted([Path(name) for name in names], key=folders._natural_key)
    assert sorted(map(str, ordered)) == sorted(str(Path(name)) for name in names)


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(deadline=None)
def test_tensor_round_trip_is_exact(height: int, width: int, flipped: bool) -> None:
    rgb = noise(height, width)
    rgb = rgb[::-1, ::-1] if flipped else rgb
    rgb.flags.writeable = False
    x = images.to_tensor(rgb)
    assert x.shape == (1, 3, height, width)
    assert x.dtype == torch.float32
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert np.array_equal(images.to_uint8(x), rgb)
    assert np.array_equal(images.to_uint8(x[0]), rgb)


def test_to_uint8_clamps() -> None:
    x = torch.tensor([-1.0, 2.0, float("nan"), 0.5]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert images.to_uint8(x)[..., 0].tolist() == [[0, 255], [0, 128]]
    assert images.to_uint8(x.bfloat16())[..., 1].tolist() == [[0, 255], [0, 128]]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_resize_keeps_short_side_and_aspect(height: int, width: int, short: int) -> None:
    x = torch.rand(1, 3, height, width)
    if max(height, width) / min(height, width) * short > 2000:
        return
    resized = images.resize_short(x, short)
    assert min(resized.shape[-2:]) == short
    assert max(resized.shape[-2:]) == pytest.approx(max(height, width) * short / min(height, width), abs=0.5)
    assert 0 <= float(resized.min()) <= float(resized.max()) <= 1


def test_resize_of_an_extreme_aspect_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    resized = images.resize_short(torch.rand(1, 3, 1, 400), 512)
    assert resized.shape[-2] * resized.shape[-1] <= 10_500


def test_resize_is_antialiased() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    small = images.resize_short(stripes, 16)
    assert float((small - 0.5).abs().max()) < 0.15


def test_load_tensor(tmp_path: Path) -> None:
    rgb = noise(20, 30)
    path = images.save_picture(tmp_path / "a.png", rgb)
    assert torch.equal(images.load_tensor(path), images.to_tensor(rgb))
    assert images.load_tensor(path, 10).shape == (1, 3, 10, 15)
    clear = images.save_picture(tmp_path / "b.png", rgb, alpha=np.zeros((20, 30), dtype=np.uint8))
    assert float(images.load_tensor(clear).min()) == 1.0
