"""The people of a simulation and their device folders, written as files into a run's folder.

A population is made once, from a seed, and then only read. Everything that is *held out* belongs
to nobody: no device trains on it, so it can judge and be painted. Who gets which pictures is decided
in :mod:`simulations.painted_people` and :mod:`simulations.dealt_people`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from client.data import DeviceConfig, write_device
from shared_model.images import resize_short, save_picture, to_tensor, to_uint8
from simulations.settings import DemoConfig

__all__ = ["Follow", "HeldOut", "Person", "Pixels", "Population", "clear", "keep_out", "name_of", "settle", "shrunk"]

Pixels = NDArray[np.uint8]
Follow = Callable[[float, str], None]

_NAMES = (
    "Ada Bruno Chiara Dmitri Eun Farid Greta Hugo Ines Jun Kofi Lena Mateo Noor Olga Pedro Quinn Rosa Sven Tariq "
    "Uma Vera Wale Xenia Yusuf Zoe"
).split()


@dataclass(frozen=True)
class Person:
    """One simulated person.

    Parameters
    ----------
    id
        From 0; also the name of the device's folder.
    name, style
        For people: a first name, and what they like in a few words.
    palette
        Main colors of their first artwork, ``#rrggbb``, dark to light.
    photos, art
        Their pictures, relative to the run's folder.
    """

    id: int
    name: str
    style: str
    palette: tuple[str, ...]
    photos: tuple[str, ...]
    art: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """A picture that belongs to nobody; its file is relative to the run's folder."""

    file: str
    title: str


@dataclass(frozen=True)
class Population:
    """The people, and the pictures that none of them owns.

    Parameters
    ----------
    source
        ``"built-in"`` or ``"folders"``.
    deal
        How folders were dealt, in words; empty for built-in pictures.
    people
        In order of their ids.
    photos, art
        Held out.
    judged_owned
        The artworks in ``art`` belong to somebody after all, since there were not enough.
    """

    source: str
    deal: str
    people: tuple[Person, ...]
    photos: tuple[HeldOut, ...]
    art: tuple[HeldOut, ...]
    judged_owned: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Population:
        """Read what :meth:`to_dict` wrote; other keys are ignored."""
        return Population(
            values["source"],
            values["deal"],
            tuple(
                Person(**{**person, **{key: tuple(person[key]) for key in ("palette", "photos", "art")}})
                for person in values["people"]
            ),
            tuple(HeldOut(**item) for item in values["photos"]),
            tuple(HeldOut(**item) for item in values["art"]),
            bool(values["judged_owned"]),
        )


def name_of(index: int) -> str:
    """Return a first name; numbered when the list is used up."""
    turn, which = divmod(index, len(_NAMES))
    return _NAMES[which] if turn == 0 else f"{_NAMES[which]} {turn + 1}"


def clear(folder: Path) -> None:
    """Remove what an interrupted attempt to make people left in a run's folder."""
    for name in ("devices", "held_out"):
        shutil.rmtree(folder / name, ignore_errors=True)


def settle(
    folder: Path, index: int, style: str, *, photos: Sequence[Pixels], art: Sequence[Pixels], config: DemoConfig
) -> Person:
    """Write one person's device folder: pictures and ``device.toml``.

    Parameters
    ----------
    folder
        The run's folder.
    index, style
        Who, and what they like.
    photos, art
        ``(H, W, 3) uint8`` each.
    config
        The device's settings.
    """
    home = f"devices/{index}"
    device = DeviceConfig(
        photos=Path("photos"),
        art=Path("art"),
        max_epsilon=float(config.max_epsilon),
        records=config.records,
        size_px=config.record_px,
        seed=config.seed + index,
    )
    write_device(folder / home, device)
    return Person(
        index,
        name_of(index),
        style,
        _swatches(art[0]),
        tuple(_write(folder, f"{home}/photos/{number:02d}.png", rgb) for number, rgb in enumerate(photos)),
        tuple(_write(folder, f"{home}/art/{number:02d}.png", rgb) for number, rgb in enumerate(art)),
    )


def keep_out(folder: Path, kind: str, pictures: Sequence[tuple[str, Pixels]]) -> tuple[HeldOut, ...]:
    """Write pictures with their titles to ``held_out/<kind>``."""
    return tuple(
        HeldOut(_write(folder, f"held_out/{kind}/{number:02d}.png", rgb), title)
        for number, (title, rgb) in enumerate(pictures)
    )


def shrunk(rgb: Pixels, short_px: int) -> Pixels:
    """Return a picture whose short side has at most ``short_px`` pixels."""
    return rgb if min(rgb.shape[:2]) <= short_px else to_uint8(resize_short(to_tensor(rgb), short_px))


def _swatches(rgb: Pixels, count: int = 5) -> tuple[str, ...]:
    small = Image.fromarray(rgb).resize((48, 48)).quantize(count, method=Image.Quantize.MEDIANCUT)
    flat = (small.getpalette() or [])[: 3 * count]
    colors = sorted(zip(flat[::3], flat[1::3], flat[2::3], strict=True), key=sum)
    return tuple(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors)


def _write(folder: Path, name: str, rgb: Pixels) -> str:
    save_picture(folder / name, rgb)
    return name
