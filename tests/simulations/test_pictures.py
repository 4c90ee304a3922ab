"""Tests of `simulations.pictures`."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared_model.errors import InputError, MissingError
from simulations import pictures


def test_default_photos_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(socket, "socket", refuse)
    photos = pictures.default_photos()
    assert len(photos) >= 12
    assert {"astronaut", "astronaut_face", "chelsea", "coffee", "motorcycle_left", "rocket"} <= set(photos)
    for rgb in photos.values():
        assert rgb.dtype == np.uint8
        assert rgb.ndim == 3 and rgb.shape[2] == 3
        assert min(rgb.shape[:2]) >= 256
        assert rgb.std() > 20


def test_default_photos_differ() -> None:
    small = [tuple(rgb[::50, ::50].ravel().tolist()[:90]) for rgb in pictures.default_photos().values()]
    assert len(set(small)) == len(small)


def test_missing_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("simulations.pictures.resources.files", lambda _: tmp_path)
    with pytest.raises(MissingError) as caught:
        pictures.default_photos()
    assert "easel[sim]" in caught.value.hint


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (90, 90), (1, 1), (1, 50)])
def test_crops(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = pictures.crops(photo, 5, size=64, seed=1)
    assert [crop.shape for crop in found] == [(64, 64, 3)] * 5
    assert all(crop.dtype == np.uint8 for crop in found)
    again = pictures.crops(photo, 5, size=64, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    if min(shape) > 1:
        assert len({crop.tobytes() for crop in found}) == 5


def test_crops_cover_the_long_side() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 600)[None, :, None], (100, 600, 3)).astype(np.uint8)
    means = sorted(crop.mean() for crop in pictures.crops(ramp, 6, size=32, seed=0))
    assert means[0] < 60
    assert means[-1] > 195


@pytest.mark.parametrize(("count", "size"), [(0, 10), (1, 0)])
def test_impossible_crops(count: int, size: int) -> None:
    with pytest.raises(InputError):
        pictures.crops(np.zeros((9, 9, 3), dtype=np.uint8), count, size=size)


def test_a_wall_of_photos_has_detail_down_to_the_pixel() -> None:
    hung, alone = (
        pictures.wall(),
        np.array(Image.fromarray(pictures.default_photos()["astronaut"]).resize((1281, 1281))),
    )
    assert hung.shape == (1281, 1273, 3) and hung.dtype == np.uint8
    steps = [float(np.abs(np.diff(x.astype(float), axis=1)).mean()) for x in (hung, alone)]
    assert steps[0] > 1.4 * steps[1]
