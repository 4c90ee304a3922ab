"""Who has which pictures in a study, and which are held out from all of them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.central import split_pictures
from client.data import DeviceConfig, load_records, write_device
from shared_model.config import TrainConfig
from shared_model.errors import ConfigError, InputError
from shared_model.files import read_bytes
from shared_model.images import find_pictures
from simulations.dealt_people import hands
from simulations.population import Follow
from simulations.price.settings import PriceConfig

__all__ = ["Deal", "deal", "settle_all", "visit"]

_RECORDS = "records.safetensors"


@dataclass(frozen=True)
class Deal:
    """Files of every person, and files of nobody.

    Parameters
    ----------
    photos, art
        One tuple of files per person.
    held_photos, held_art
        Held out.
    """

    photos: tuple[tuple[Path, ...], ...]
    art: tuple[tuple[Path, ...], ...]
    held_photos: tuple[Path, ...]
    held_art: tuple[Path, ...]


def deal(photos: Sequence[str], art: Sequence[str], splits: str, *, config: PriceConfig) -> Deal:
    """Deal photos at random and artworks by hand, keeping the held-out pictures apart.

    Parameters
    ----------
    photos, art
        Folders. Artworks of one subfolder, or whose names begin alike, are one hand's.
    splits
        A JSON file that names the held-out pictures in lists ``photos_val`` and ``art_test``, relative to
        the file; empty: a tenth of each kind, chosen by the files' content, is held out.
    config
        How many people and pictures.

    Raises
    ------
    InputError
        If there are too few pictures.
    ConfigError
        If ``splits`` cannot be used.
    """
    dice = random.Random(f"{config.seed}/price")
    if splits:
        held_photos, held_art = _named(Path(splits), "photos_val"), _named(Path(splits), "art_test")
    else:
        held_photos, held_art = _by_content(photos), _by_content(art)
    out = {path.resolve() for path in (*held_photos, *held_art)}
    rest = [path for path in find_pictures(photos) if path.resolve() not in out]
    works = [
        kept
        for folder in art
        for hand in hands(find_pictures([folder]), Path(folder))
        if (kept := [path for path in hand if path.resolve() not in out])
    ]
    if len(rest) < config.devices or len(works) < config.devices:
        raise InputError(
            f"{len(rest)} photos and {len(works)} hands are left for {config.devices} people",
            hint="name more folders, or lower `devices` in a --config file",
        )
    for names in (rest, works, held_photos, held_art):
        dice.shuffle(names)
    works.sort(key=lambda hand: len(hand) < config.art_each)  # hands with enough works first
    each = min(config.photos_each, len(rest) // config.devices)
    return Deal(
        tuple(tuple(rest[index * each : (index + 1) * each]) for index in range(config.devices)),
        tuple(tuple(works[index][: config.art_each]) for index in range(config.devices)),
        tuple(held_photos),
        tuple(held_art),
    )


def settle_all(folder: Path, dealt: Deal, *, config: PriceConfig, follow: Follow) -> None:
    """Give every person a device folder with pictures and fixed records; a second call only reads."""
    for index, (photos, art) in enumerate(zip(dealt.photos, dealt.art, strict=True)):
        follow(index / config.devices, f"person {index}")
        home = folder / str(index)
        for kind, files in (("photos", photos), ("art", art)):
            (home / kind).mkdir(parents=True, exist_ok=True)
            for number, path in enumerate(files):
                target = home / kind / f"{number:03d}{path.suffix.lower()}"
                if not target.exists():
                    shutil.copyfile(path, target)
        if not (home / "device.toml").exists():
            write_device(home, _device(Path("photos"), Path("art"), config, index, budget=1.0, delta=1e-6))
        load_records(home)


def visit(people: Path, folder: Path, *, config: PriceConfig, budget: float, delta: float) -> list[Path]:
    """Make fresh devices of the same people for one run: their records, and a ledger of its own.

    A device's ledger forgets nothing, so every run of a study needs devices that have sent nothing yet.

    Parameters
    ----------
    people
        From `settle_all`.
    folder
        Where the devices of this run go; devices that are there already are left alone.
    budget, delta
        The owners' limit, and the delta at which it holds.
    """
    homes = []
    for index in range(config.devices):
        home, source = folder / str(index), (people / str(index)).resolve()
        if not (home / "device.toml").exists():
            home.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / _RECORDS, home / _RECORDS)
            write_device(home, _device(source / "photos", source / "art", config, index, budget=budget, delta=delta))
        homes.append(home)
    return homes


def _device(photos: Path, art: Path, config: PriceConfig, index: int, *, budget: float, delta: float) -> DeviceConfig:
    return DeviceConfig(
        photos=photos,
        art=art,
        max_epsilon=budget,
        delta=delta,
        records=config.records,
        artworks=config.art_each,
        size_px=config.record_px,
        seed=config.seed + index,
    )


def _named(splits: Path, key: str) -> list[Path]:
    """Read a list of held-out files."""
    try:
        names = json.loads(read_bytes(splits, limit=1 << 24))[key]
        paths = [splits.parent / name for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{splits} has no list {key!r} of pictures") from error
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise ConfigError(f"{splits}: {missing[0] if missing else key} is not there")
    return paths


def _by_content(folders: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        parts = split_pictures(folder, TrainConfig())
        found.extend((*parts.validation, *parts.test))
    return found
