"""Works of painters, split so that what a judge learns from and what heads are fitted on never meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shared_model.errors import InputError
from shared_model.images import find_pictures, load_tensor, save_picture, to_uint8

__all__ = ["SCALE_PX", "Fold", "at_scale", "folds_of"]

SCALE_PX = 512  # short side at which the judge sees works and stylized photos: the canvas of the heads


@dataclass(frozen=True)
class Fold:
    """Per painter: what the judge learns from, and what heads are fitted on."""

    learned: Mapping[str, tuple[Path, ...]]
    aside: Mapping[str, tuple[Path, ...]]


def folds_of(folder: Path, *, count: int, unit: str, halves: Path) -> list[Fold]:
    """Split the works of every painter (a folder each).

    Parameters
    ----------
    count
        Folds; fold ``f`` sets the works ``f, f + count ...`` of each painter aside.
    unit
        ``painter``, or ``work``: every work is a class, and halves of works are kept apart.
    halves
        Where halves of works are written.

    Raises
    ------
    InputError
        If there are fewer than two painters or a painter has fewer than two works.
    """
    works = {item.name: find_pictures([item]) for item in sorted(folder.iterdir()) if item.is_dir()}
    if len(works) < 2 or min(len(files) for files in works.values()) < 2:
        raise InputError(f"{folder} must hold two painters or more, a folder each, with two works or more")
    if unit == "work":
        cut = {f"{name}-{file.stem}": _halves(file, halves) for name, files in works.items() for file in files}
        sides = [({n: (c[i],) for n, c in cut.items()}, {n: (c[1 - i],) for n, c in cut.items()}) for i in range(2)]
        return [Fold(learned, aside) for learned, aside in sides[:count]]
    count = min(count, *(len(files) for files in works.values()))
    return [
        Fold(
            {name: tuple(f for i, f in enumerate(files) if i % count != fold) for name, files in works.items()},
            {name: tuple(files[fold::count]) for name, files in works.items()},
        )
        for fold in range(count)
    ]


def _halves(file: Path, folder: Path) -> tuple[Path, Path]:
    picture = to_uint8(load_tensor(file, SCALE_PX))
    middle = picture.shape[1] // 2
    parts = (picture[:, :middle], picture[:, middle:])
    if picture.shape[0] > picture.shape[1]:
        middle = picture.shape[0] // 2
        parts = (picture[:middle], picture[middle:])
    names = [folder / f"{file.parent.name}-{file.stem}-{side}.png" for side in ("a", "b")]
    for name, part in zip(names, parts, strict=True):
        save_picture(name, part)
    return names[0], names[1]


def at_scale(path: Path, unit: str) -> Tensor:
    """Read a work as the judge sees it; halves of works have their scale already."""
    return load_tensor(path) if unit == "work" else load_tensor(path, SCALE_PX)
