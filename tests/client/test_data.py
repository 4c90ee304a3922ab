"""Device settings and fixed training records."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from client.data import CACHE, DeviceConfig, load_device, load_records, write_device
from shared_model.config import HeadConfig
from shared_model.errors import ConfigError, InputError, MissingError
from shared_model.images import save_picture
from shared_model.records import Batch, photo_record

SMALL = HeadConfig(canvas_px=64, levels=2, patch=5, atoms=24, components=6, candidates=100)


def picture(path: Path, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 10, 3), dtype=np.uint8)
    save_picture(path, np.kron(coarse, np.ones((8, 8, 1), np.uint8)))


@pytest.fixture
def device(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / "photos" / f"p{number}.png", number)
    for number in range(2):
        picture(tmp_path / "art" / f"a{number}.png", 10 + number)
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, **changes: object) -> DeviceConfig:
    base = DeviceConfig(photos=Path("photos"), art=Path("art"), records=3, size_px=48, seed=7, head=SMALL)
    config = dataclasses.replace(base, **changes)  # type: ignore[arg-type]
    write_device(folder, config)
    return config


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True))


def test_records_are_fixed_cached_and_private(device: Path) -> None:
    first = load_records(device)
    assert len(first) == 3 and first.size_px == 48
    assert all(bool(torch.isfinite(tensor).all()) for tensor in first.tensors())
    assert all(tensor.dtype == torch.float32 for tensor in first.tensors())
    cache = device / CACHE
    assert cache.stat().st_mode & 0o777 == 0o600
    stamp = cache.stat().st_mtime_ns
    assert same(first, load_records(device))
    assert cache.stat().st_mtime_ns == stamp
    cache.unlink()
    assert same(first, load_records(device))


def test_cached_records_need_no_painting(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_records(device)

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr("client.data.photo_record", forbidden)
    assert same(first, load_records(device))


def test_taking_a_photo_away_changes_no_other_record(device: Path) -> None:
    def rows(batch: Batch) -> set[bytes]:
        return {batch.select([i]).draft.numpy().tobytes() for i in range(len(batch))}

    before = rows(load_records(device))
    (device / "photos" / "p1.png").unlink()
    configure(device, records=2)
    after = rows(load_records(device))
    assert len(before) == 3 and len(after) == 2
    assert after < before


@pytest.mark.parametrize("change", ["touch", "new photo", "new art", "seed", "size", "head"])
def test_changed_inputs_make_new_records(device: Path, change: str) -> None:
    load_records(device)
    stamp = (device / CACHE).stat().st_mtime_ns
    if change == "touch":
        os.utime(device / "photos" / "p0.png", ns=(1, 1))
    elif change == "new photo":
        picture(device / "photos" / "p9.png", 9)
    elif change == "new art":
        picture(device / "art" / "a9.png", 19)
    elif change == "seed":
        configure(device, seed=8)
    elif change == "size":
        configure(device, size_px=52)
    else:
        configure(device, head=dataclasses.replace(SMALL, atoms=20))
    load_records(device)
    assert (device / CACHE).stat().st_mtime_ns != stamp


def test_a_new_budget_or_gpu_keeps_the_records(device: Path) -> None:
    load_records(device)
    stamp = (device / CACHE).stat().st_mtime_ns
    configure(device, max_epsilon=2.0, delta=1e-7, device="cuda")
    load_records(device)
    assert (device / CACHE).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("spoil", [b"", b"\x00" * 50, b"\xff" * 9, None])
def test_a_damaged_cache_is_made_anew(device: Path, spoil: bytes | None) -> None:
    first = load_records(device)
    data = (device / CACHE).read_bytes()
    (device / CACHE).write_bytes(data[:-100] if spoil is None else spoil)
    assert same(first, load_records(device))
    assert (device / CACHE).stat().st_size == len(data)


def test_few_photos_come_again_with_another_artwork(device: Path) -> None:
    configure(device, records=5)
    records = load_records(device)
    assert len(records) == 5
    assert len({records.select([i]).draft.numpy().tobytes() for i in range(5)}) == 5


def test_many_photos_are_limited(device: Path) -> None:
    configure(device, records=2, artworks=1)
    assert len(load_records(device)) == 2


def test_unreadable_pictures_are_left_out(device: Path, caplog: pytest.LogCaptureFixture) -> None:
    (device / "photos" / "p1.png").write_bytes(b"not a picture")
    with caplog.at_level(logging.WARNING, logger="easel.client"):
        assert len(load_records(device)) == 3
    assert "left out" in caplog.text
    for number in range(3):
        (device / "photos" / f"p{number}.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="gives a usable record"):
        load_records(device)


def test_a_record_that_is_not_finite_is_left_out(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(photo: torch.Tensor, *args: object, **kwargs: object) -> Batch:
        record = photo_record(photo, *args, **kwargs)  # type: ignore[arg-type]
        return dataclasses.replace(record, draft=record.draft * math.nan)

    monkeypatch.setattr("client.data.photo_record", broken)
    with pytest.raises(InputError, match="gives a usable record"):
        load_records(device)


def test_no_usable_art_or_folder(device: Path) -> None:
    for number in range(2):
        (device / "art" / f"a{number}.png").write_bytes(b"?")
    with pytest.raises(InputError, match="artworks"):
        load_records(device)
    configure(device, art=Path("nowhere"))
    with pytest.raises(InputError, match="nowhere"):
        load_records(device)
    assert not (device / CACHE).exists()


def test_settings_round_trip_with_absolute_folders(tmp_path: Path) -> None:
    written = DeviceConfig(photos=Path('my "best" photos é'), art=tmp_path / "art", max_epsilon=math.inf, head=SMALL)
    path = write_device(tmp_path, written)
    assert path.stat().st_mode & 0o777 == 0o600
    read = load_device(tmp_path)
    assert read.photos == (tmp_path / 'my "best" photos é').resolve()
    assert dataclasses.replace(read, photos=written.photos) == dataclasses.replace(written, art=read.art)


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"device\.toml"):
        load_device(tmp_path)
    (tmp_path / "device.toml").write_text('photos = "p"\nart = "a"\nmax_epsilom = 1.0\n')
    with pytest.raises(ConfigError, match="max_epsilom") as caught:
        load_device(tmp_path)
    assert "max_epsilon" in caught.value.hint
    for line in ("max_epsilon = 0.0", "delta = 0.1", "records = 0", "size_px = 50", "size_px = 32", "artworks = 0"):
        (tmp_path / "device.toml").write_text(f'photos = "p"\nart = "a"\n{line}\n')
        with pytest.raises(ConfigError):
            load_device(tmp_path)
