"""A population as device folders: made once, then visited by as many runs as one likes.

Each person's folder holds pictures, ``device.toml``, the fixed training records and, in ``test/``,
records made of pictures that are in none of them. A run gets fresh devices (:meth:`Settlement.visit`),
since a device's ledger forgets nothing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.data import CACHE, SETTINGS, DeviceConfig, load_device, load_records, write_device
from shared_model.config import digest, parse, to_dict
from shared_model.errors import InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.images import load_picture, save_picture
from shared_model.records import Batch
from simulations.population import Follow
from simulations.populations.built_in import built_in_sources
from simulations.populations.config import PopulationConfig
from simulations.populations.deal import Deal, Share, deal
from simulations.populations.light import lit
from simulations.populations.sources import Sources, folder_sources

__all__ = ["MARKER", "Settlement", "read_settlement", "settle", "settle_all", "test_records", "visit"]

MARKER = "population.json"
_ASKED, _TEST = "asked.json", "test"


@dataclass(frozen=True)
class Settlement:
    """A population that has its device folders.

    Parameters
    ----------
    folder
        Where it lives; device ``i`` is ``folder / "i"``.
    config
        What it is.
    shares
        Files of every person, in order; copies in the device folders are what trains.
    held_photos, held_art
        Nobody's.
    source
        ``"built-in"`` or ``"folders"``.
    """

    folder: Path
    config: PopulationConfig
    shares: tuple[Share, ...]
    held_photos: tuple[Path, ...]
    held_art: tuple[Path, ...]
    source: str

    @property
    def devices(self) -> tuple[Path, ...]:
        """The device folders, to read from; runs use those of :meth:`visit`."""
        return tuple(self.folder / str(index) for index in range(len(self.shares)))

    def visit(self, folder: Path | str, *, budget: float, delta: float) -> tuple[Path, ...]:
        """Make fresh devices of the same people for one run: their records, and ledgers of their own.

        Parameters
        ----------
        folder
            Where the devices of this run go; devices that are there already are left alone.
        budget, delta
            The owners' limit, and the delta at which it holds; ``math.inf`` where nothing is protected.

        Returns
        -------
        tuple of Path
            Device folders, in order.
        """
        return visit(self.devices, folder, budget=budget, delta=delta)


def settle(
    config: PopulationConfig,
    folder: Path | str,
    *,
    photos: Sequence[str] = (),
    art: Sequence[str] = (),
    splits: str = "",
    follow: Follow = lambda share, words: None,
) -> Settlement:
    """Give every person a device folder with pictures, fixed records and a personal test.

    Parameters
    ----------
    config
        Who gets what.
    folder
        Where the population lives; what an interrupted call left there is finished, and a second call only
        reads.
    photos, art, splits
        See :func:`simulations.populations.sources.folder_sources`; without folders the built-in pictures.
    follow
        Told the fraction done and what is being made.

    Raises
    ------
    InputError
        If the folder holds another population, or there are too few pictures.
    ConfigError
        If ``splits`` cannot be used.
    """
    home = Path(folder)
    asked = {
        "digest": digest(dataclasses.replace(config, churn=type(config.churn)())),
        "folders": [str(Path(name).resolve()) for name in (*photos, *art, *((splits,) if splits else ()))],
    }
    _claim(home, asked)
    if (home / MARKER).is_file():
        return dataclasses.replace(read_settlement(home), config=config)
    sources = _sources(config, home, photos, art, splits, follow)
    dealt = deal(sources, config)
    settle_all(home, dealt, config=config, follow=follow)
    source = "folders" if photos or art else "built-in"
    found = Settlement(home, config, dealt.shares, dealt.held_photos, dealt.held_art, source)
    write_atomic(home / MARKER, (json.dumps(_facts(found), indent=1) + "\n").encode())
    return found


def read_settlement(folder: Path | str) -> Settlement:
    """Read a population that `settle` has made.

    Raises
    ------
    MissingError
        If there is none.
    StorageError
        If its record is damaged.
    """
    home = Path(folder)
    if not (home / MARKER).is_file():
        raise MissingError(f"there is no population in {home}", hint="easel-sim population makes one")
    try:
        values: dict[str, Any] = json.loads(read_bytes(home / MARKER, limit=1 << 28))
        shares = tuple(_share(value) for value in values["shares"])
        photos, art = (tuple(map(Path, values[key])) for key in ("held_photos", "held_art"))
        config = parse(values["config"], PopulationConfig, source=str(home / MARKER))
        return Settlement(home, config, shares, photos, art, values["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{home / MARKER} is damaged", hint="remove the folder and make the people anew") from error


def visit(devices: Sequence[Path], folder: Path | str, *, budget: float, delta: float) -> tuple[Path, ...]:
    """Make fresh devices of device folders that have their records; see :meth:`Settlement.visit`."""
    homes = []
    for index, source in enumerate(devices):
        home = Path(folder) / str(index)
        for part in ("", _TEST):
            if (source / part / SETTINGS).exists() and not (home / part / SETTINGS).exists():
                load_records(source / part)  # makes what is missing
                (home / part).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / part / CACHE, home / part / CACHE)
                device = dataclasses.replace(load_device(source / part), max_epsilon=budget, delta=delta)
                write_device(home / part, device)
        homes.append(home)
    return tuple(homes)


def test_records(device: Path | str) -> Batch | None:
    """Return a device's personal test, records of pictures that it does not train on; None if it has none."""
    home = Path(device) / _TEST
    return load_records(home) if (home / SETTINGS).is_file() else None


def settle_all(folder: Path, dealt: Deal, *, config: PopulationConfig, follow: Follow) -> tuple[Path, ...]:
    """Write the device folders of a deal and return them; what is there already stays as it is."""
    homes: list[Path] = []
    for index, share in enumerate(dealt.shares):
        follow(index / len(dealt.shares), f"person {index}")
        home = folder / str(index)
        _settle(home, share.photos, share.art, _device(config, index, records=share.records), share.light)
        if share.test_photos:
            art = share.test_art or share.art
            _settle(
                home / _TEST, share.test_photos, art, _device(config, index, records=config.test_records), share.light
            )
        homes.append(home)
    return tuple(homes)


def _settle(home: Path, photos: Sequence[Path], art: Sequence[Path], device: DeviceConfig, light: str) -> None:
    for kind, files in (("photos", photos), ("art", art)):
        (home / kind).mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(files):
            target = home / kind / f"{number:03d}{path.suffix.lower()}"
            target = target.with_suffix(".png") if kind == "photos" and light != "day" else target
            if kind == "photos" and light != "day" and not target.exists():
                save_picture(target, lit(load_picture(path).rgb, light))
            elif not target.exists():
                shutil.copyfile(path, target)
    if not (home / SETTINGS).exists():
        write_device(home, device)
    load_records(home)


def _device(config: PopulationConfig, index: int, *, records: int) -> DeviceConfig:
    return DeviceConfig(
        photos=Path("photos"),
        art=Path("art"),
        max_epsilon=1.0,
        delta=1e-6,
        records=records,
        artworks=config.art_each,
        size_px=config.record_px,
        seed=config.seed + index,
        head=config.head,
    )


def _sources(
    config: PopulationConfig, home: Path, photos: Sequence[str], art: Sequence[str], splits: str, follow: Follow
) -> Sources:
    if photos or art or splits:
        return folder_sources(photos, art, splits)
    return built_in_sources(home / "pictures", config=config, follow=follow)


def _claim(home: Path, asked: dict[str, Any]) -> None:
    """Begin a population in an empty folder, or make sure that the one there is the same."""
    path = home / _ASKED
    if path.is_file():
        if json.loads(read_bytes(path, limit=1 << 20)) != asked:
            raise InputError(
                f"{home} holds another population",
                hint="repeat its settings and folders to use it, or choose another folder",
            )
        return
    if home.exists() and any(home.iterdir()):
        raise InputError(f"{home} is not empty and holds no population", hint="choose another folder")
    write_atomic(path, json.dumps(asked).encode())


def _facts(found: Settlement) -> dict[str, Any]:
    shares = [
        {key: list(map(str, value)) if isinstance(value, tuple) else value for key, value in vars(share).items()}
        for share in found.shares
    ]
    return {
        "easel": "population",
        "source": found.source,
        "config": to_dict(found.config),
        "shares": shares,
        "held_photos": [str(path) for path in found.held_photos],
        "held_art": [str(path) for path in found.held_art],
    }


def _share(value: dict[str, Any]) -> Share:
    files = {key: tuple(Path(name) for name in value[key]) for key in ("photos", "art", "test_photos", "test_art")}
    return Share(**{**value, **files, "styles": tuple(value["styles"])})
