"""A device's private pictures as fixed training records, made once and kept on the device.

The folder of a device holds ``device.toml`` (:class:`DeviceConfig`), its ledger, and the cached
records. Nothing here knows a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from client.placement import DEVICES, GPUS, known
from shared_model.config import HeadConfig, load_toml, to_dict
from shared_model.errors import ConfigError, InputError, MissingError, PictureError
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head
from shared_model.images import find_pictures, load_tensor
from shared_model.mechanism import LARGEST_DELTA
from shared_model.records import Batch, photo_record

__all__ = ["CACHE", "SETTINGS", "DeviceConfig", "device_heads", "load_device", "load_records", "write_device"]

SETTINGS = "device.toml"
CACHE = "records.safetensors"

_FORMAT = "easel-records-1"
_LEAST_PX = 48  # the coarsest band of the losses still has room for its filters


@dataclass(frozen=True)
class DeviceConfig:
    """What a device's owner set: ``device.toml`` in the device folder.

    Attributes
    ----------
    photos, art
        Folders (or files) of photos to learn on and of pictures in the owner's taste; relative
        paths start at the device folder.
    max_epsilon, delta
        The owner's privacy budget, see :class:`client.ledger.Ledger`.
    records
        How many training records to make. With more records than photos a photo is in several:
        example-level privacy then protects it that many times less.
    artworks
        At most this many pictures of ``art`` are used; each costs about a second, once.
    size_px
        Side of a record in pixels.
    seed
        Seed of pairing, crops and drafts; stays on the device.
    device
        Where training computes, see :func:`client.placement.known`.
    head
        How the frozen heads that draft the records are built.
    """

    photos: Path
    art: Path
    max_epsilon: float = 8.0
    delta: float = 1e-6
    records: int = 64
    artworks: int = 16
    size_px: int = 128
    seed: int = 0
    device: str = "cpu"
    head: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        if not self.max_epsilon > 0.0:
            raise ConfigError(f"max_epsilon must be positive, not {self.max_epsilon}")
        if not 0.0 < self.delta <= LARGEST_DELTA:
            raise ConfigError(f"delta must be positive and at most {LARGEST_DELTA:g}, not {self.delta}")
        if not (1 <= self.records <= 100_000 and 1 <= self.artworks <= 1000):
            raise ConfigError("records must be between 1 and 100000, artworks between 1 and 1000")
        if self.size_px % 4 or not _LEAST_PX <= self.size_px <= 1024:
            raise ConfigError(f"size_px must be a multiple of 4 from {_LEAST_PX} to 1024, not {self.size_px}")
        if not known(self.device):
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, not {self.device!r}", hint=GPUS)


def load_device(folder: Path | str) -> DeviceConfig:
    """Read a device's settings; its picture folders come back as absolute paths.

    Raises
    ------
    MissingError
        If the folder has no ``device.toml``.
    ConfigError
        If a key is unknown or a value out of range.
    """
    home = Path(folder)
    if not (home / SETTINGS).is_file():
        raise MissingError(f"{home} is not a device folder: it has no {SETTINGS}", hint="easel join makes one")
    config = load_toml(home / SETTINGS, DeviceConfig)
    return dataclasses.replace(config, photos=_inside(home, config.photos), art=_inside(home, config.art))


def write_device(folder: Path | str, config: DeviceConfig) -> Path:
    """Write ``device.toml``, readable by its owner only; returns its path."""
    values = to_dict(config)
    head = values.pop("head")
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    lines += ["", "[head]", *(f"{key} = {_toml(value)}" for key, value in head.items())]
    return write_atomic(Path(folder) / SETTINGS, ("\n".join(lines) + "\n").encode(), mode=0o600)


def load_records(folder: Path | str) -> Batch:
    """Return the device's fixed training records; the first call makes them, later ones read them.

    Guarantees
    ----------
    Which artwork a photo is paired with, its crops and its draft depend on that photo, that
    artwork, their names and the seed alone: taking one photo away changes no record of another.
    The same folder gives the same records in every call. The cache is readable by its owner only.

    Assumes
    -------
    A file whose name, size and modification time did not change did not change.

    Edge cases
    ----------
    Changed pictures or settings, or a damaged cache, make all records anew. Unreadable pictures
    are left out with a warning in the device's own log; if none is left that is an error. Fewer
    photos than records: photos come again, with another artwork if there is one.

    Raises
    ------
    MissingError, ConfigError
        See :func:`load_device`.
    InputError
        If there is no usable photo or artwork.
    """
    home = Path(folder)
    config = load_device(home)
    photos, arts = find_pictures([config.photos]), find_pictures([config.art])
    wanted = _digest(config, photos, arts)
    cached = _read(home / CACHE, wanted)
    if cached is None:
        made = _make(config, photos, arts)
        cached = Batch(*(tensor.half().float() for tensor in made.tensors()))  # what later calls will read
        _write(home / CACHE, cached, wanted)
    return cached


def device_heads(folder: Path | str) -> list[Head]:
    """Fit the frozen heads that draft a device's records, for whoever must know what may not leave."""
    config = load_device(folder)
    return _Painters(config, find_pictures([config.art])).heads()


def _make(config: DeviceConfig, photos: Sequence[Path], arts: Sequence[Path]) -> Batch:
    """Make the records one by one."""
    painters = _Painters(config, arts)
    usable = sorted(photos, key=lambda path: _hash(config.seed, "photo", _name(path, config.photos)))
    records: list[Batch] = []
    turn = 0
    while usable and len(records) < config.records:
        for path in list(usable):
            if len(records) == config.records:
                break
            picture = _load(path, config.head.canvas_px)
            record = None if picture is None else painters.record(picture, _name(path, config.photos), turn)
            if record is not None and all(bool(torch.isfinite(tensor).all()) for tensor in record.tensors()):
                records.append(record)
            else:
                usable.remove(path)
        turn += 1
    if not records:
        raise InputError("none of the device's photos gives a usable record", hint=f"check {config.photos}")
    return Batch.stack(records)


class _Painters:
    """One frozen head per artwork, fitted when first needed."""

    def __init__(self, config: DeviceConfig, arts: Sequence[Path]) -> None:
        self._config = config
        ranked = sorted(arts, key=lambda path: _hash(config.seed, "art", _name(path, config.art)))
        self._paths: dict[str, Path] = {}
        for path in ranked:
            if len(self._paths) < config.artworks and _load(path, config.head.canvas_px) is not None:
                self._paths[_name(path, config.art)] = path
        if not self._paths:
            raise InputError("none of the device's artworks can be read", hint=f"check {config.art}")
        self._fitted: dict[str, tuple[Head, Tensor]] = {}

    def record(self, photo: Tensor, name: str, turn: int) -> Batch:
        """Pair a photo with an artwork by rendezvous hashing: the choice ignores other photos."""
        seed = self._config.seed
        ranking = sorted(self._paths, key=lambda art: _hash(seed, "pair", name, art))
        art = ranking[turn % len(ranking)]
        head, style = self._head(art)
        state = random.Random(_hash(seed, "record", name, art, turn))
        return photo_record(photo, style, head, size_px=self._config.size_px, random_state=state)

    def heads(self) -> list[Head]:
        """Fit all that are not fitted yet, and return them."""
        return [self._head(name)[0] for name in self._paths]

    def _head(self, name: str) -> tuple[Head, Tensor]:
        if name not in self._fitted:
            style = load_tensor(self._paths[name], self._config.head.canvas_px)
            seed = int(_hash(self._config.seed, "head", name)[:8], 16)
            self._fitted[name] = Head.fit([style], config=self._config.head, seed=seed), style
        return self._fitted[name]


def _load(path: Path, short_px: int) -> Tensor | None:
    """Load a picture, or say in the log why not."""
    try:
        return load_tensor(path, short_px)
    except PictureError as error:
        getLogger("easel.client").warning("left out: %s", error.message)
        return None


def _read(path: Path, wanted: str) -> Batch | None:
    """Return cached records if they are whole and made from the wanted inputs."""
    if not path.is_file():
        return None
    data = read_bytes(path, limit=1 << 34)
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        if header.get("__metadata__") != {"format": _FORMAT, "digest": wanted}:
            return None
        tensors = safetensors.torch.load(data)
        return Batch(**{item.name: tensors[item.name].float() for item in dataclasses.fields(Batch)})
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError):
        return None


def _write(path: Path, records: Batch, digest: str) -> None:
    tensors = {item.name: getattr(records, item.name).half().contiguous() for item in dataclasses.fields(Batch)}
    data = safetensors.torch.save(tensors, metadata={"format": _FORMAT, "digest": digest})
    write_atomic(path, data, mode=0o600)


def _digest(config: DeviceConfig, photos: Sequence[Path], arts: Sequence[Path]) -> str:
    """Identify everything that the records are made from; budget, delta and where training computes do not matter."""
    ignored = ("art", "delta", "device", "max_epsilon", "photos")
    shape = {key: value for key, value in to_dict(config).items() if key not in ignored}
    files = [_name(path, config.photos) for path in photos], [_name(path, config.art) for path in arts]
    facts = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (*photos, *arts)]
    return _hash(_FORMAT, json.dumps(shape, sort_keys=True), json.dumps(files), json.dumps(facts))


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def _name(path: Path, folder: Path) -> str:
    """Name a picture within its folder, so that moving the folder changes no record."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _inside(home: Path, path: Path) -> Path:
    return (home / path.expanduser()).resolve()


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
