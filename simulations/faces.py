"""A folder of face pictures with lists of splits and attributes, such as CelebA (Liu et al. 2015).

Reads the folder as it comes: the official download (``Img/``, ``Eval/``, ``Anno/``), torchvision's
(``celeba/img_align_celeba`` beside the lists) and Kaggle's (``img_align_celeba/img_align_celeba`` and CSV
lists). Nothing is downloaded. A folder without lists is split by a hash of the file names.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared_model.errors import InputError, MissingError
from shared_model.files import read_bytes
from shared_model.images import SUFFIXES

__all__ = ["SPLITS", "Faces", "open_faces", "read_attributes"]

SPLITS = ("train", "validation", "test")
_IMAGES = "img_align_celeba"
_PARTITION, _ATTRIBUTES = "list_eval_partition", "list_attr_celeba"
_LIST_FOLDERS = (".", "Eval", "Anno", "celeba", "..", "../Eval", "../Anno", "../..", "../../Eval", "../../Anno")
_MAX_LIST_BYTES = 1 << 28


@dataclass(frozen=True)
class Faces:
    """The pictures of a folder, split.

    Parameters
    ----------
    folder
        Where the pictures lie.
    train, validation, test
        Their names, sorted.
    attributes
        The file with their attributes; ``None`` if there is none.
    listed
        Whether the splits come from a list; otherwise from a hash of the names.
    missing
        How many listed pictures are not there.
    """

    folder: Path
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    attributes: Path | None
    listed: bool
    missing: int

    def names(self, split: str) -> tuple[str, ...]:
        """Return the names of one of :data:`SPLITS`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def spread(self, split: str, count: int, *, without: Collection[str] = ()) -> list[Path]:
        """Return at most ``count`` pictures of a split, spread evenly over it, leaving out the names in ``without``."""
        names = [name for name in self.names(split) if name not in without]
        if len(names) > count:
            names = [names[index * len(names) // count] for index in range(count)]
        return [self.folder / name for name in names]


def open_faces(root: Path | str) -> Faces:
    """Find pictures and lists below (or beside) a folder.

    Parameters
    ----------
    root
        The folder of the data set, or the folder of the pictures itself.

    Raises
    ------
    MissingError
        If the folder is not there or not unpacked.
    InputError
        If it holds too few pictures for three splits, or a list is damaged (the line is named).
    """
    given = Path(root).expanduser()
    if not given.is_dir():
        raise MissingError(f"{given} is not a folder", hint="give the folder that holds img_align_celeba and the lists")
    folder = _image_folder(given)
    present = _pictures(folder)
    if not present:
        zipped = next((path for path in (given, *given.glob("*/")) if (path / f"{_IMAGES}.zip").is_file()), None)
        if zipped is not None:
            raise MissingError(f"{zipped / _IMAGES}.zip is not unpacked", hint="unzip it beside itself")
        raise InputError(f"no pictures in {folder}", hint=f"looked for files ending in {', '.join(SUFFIXES)}")
    lists = [folder / place for place in _LIST_FOLDERS] + [given / place for place in _LIST_FOLDERS[:4]]
    partition, attributes = _find(lists, _PARTITION), _find(lists, _ATTRIBUTES)
    places = _hashed(present) if partition is None else _read_partition(partition)
    parts: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for name in sorted(places.keys() & present):
        parts[places[name]].append(name)
    empty = [split for split, part in zip(SPLITS, parts.values(), strict=True) if not part]
    if empty:
        raise InputError(f"{folder} has no pictures for {' and '.join(empty)}", hint="a few of each split are needed")
    return Faces(
        folder=folder,
        train=tuple(parts[0]),
        validation=tuple(parts[1]),
        test=tuple(parts[2]),
        attributes=attributes,
        listed=partition is not None,
        missing=len(places.keys() - present),
    )


def read_attributes(path: Path, names: Collection[str], wanted: Sequence[str]) -> dict[str, dict[str, bool]]:
    """Read some attributes of some pictures.

    Parameters
    ----------
    path
        ``list_attr_celeba.txt`` (a line with the count, a line with the names, then a picture per line with 1 and
        -1) or its CSV form (a header, then 1 and -1, or 1 and 0).
    names
        The pictures.
    wanted
        The attributes.

    Returns
    -------
    dict
        For each picture that is listed, attribute to whether it has it.

    Raises
    ------
    InputError
        If there is no such attribute or the list is damaged.
    """
    rows = _rows(path)
    header = next(rows, (0, []))[1]
    if len(header) == 1 and header[0].isdigit():
        header = next(rows, (0, []))[1]
    columns = header[1:] if header and header[0].lower() in ("image_id", "image", "filename") else header
    for attribute in wanted:
        if attribute not in columns:
            raise InputError(f"{path}: no attribute {attribute!r}", hint=f"there are: {', '.join(columns)}")
    asked, found = set(names), {}
    for number, cells in rows:
        if len(cells) != len(columns) + 1:
            raise InputError(f"{path}, line {number}: {len(columns) + 1} entries expected, {len(cells)} found")
        if cells[0] in asked:
            values = {attribute: cells[1 + columns.index(attribute)] for attribute in wanted}
            if not set(values.values()) <= {"1", "-1", "0"}:
                raise InputError(f"{path}, line {number}: an attribute is neither 1 nor -1")
            found[cells[0]] = {attribute: value == "1" for attribute, value in values.items()}
    return found


def _image_folder(given: Path) -> Path:
    """Return the folder of the pictures: the given one, or img_align_celeba somewhere below, however often nested."""
    for place in (_IMAGES, f"Img/{_IMAGES}", f"celeba/{_IMAGES}", f"CelebA/{_IMAGES}", f"CelebA/Img/{_IMAGES}", "."):
        folder = given / place
        if not folder.is_dir():
            continue
        while not _pictures(folder) and (folder / _IMAGES).is_dir():
            folder = folder / _IMAGES
        if _pictures(folder):
            return folder
    return given


def _pictures(folder: Path) -> set[str]:
    """Return the names of the pictures in a folder; asks for nothing but names, since there may be 200 000."""
    return {name for name in os.listdir(folder) if not name.startswith(".") and name.lower().endswith(SUFFIXES)}


def _find(folders: Sequence[Path], stem: str) -> Path | None:
    for folder in folders:
        for suffix in (".txt", ".csv"):
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    return None


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of every line that is not empty: CSV, or columns parted by spaces."""
    try:
        text = read_bytes(path, limit=_MAX_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file", hint="copy or download it again") from error
    for number, line in enumerate(text.splitlines(), 1):
        cells = next(csv.reader([line]), []) if path.suffix == ".csv" else line.split()
        if cells:
            yield number, [cell.strip() for cell in cells]


def _read_partition(path: Path) -> dict[str, int]:
    """Read ``000001.jpg 0`` (or ``000001.jpg,0`` after a header): 0 train, 1 validation, 2 test."""
    places = {}
    for number, cells in _rows(path):
        if number == 1 and cells[-1] == "partition":
            continue
        if len(cells) != 2 or cells[1] not in ("0", "1", "2"):
            raise InputError(f"{path}, line {number}: a picture and 0, 1 or 2 expected", hint="is this the right file?")
        places[cells[0]] = int(cells[1])
    return places


def _hashed(names: Collection[str]) -> Mapping[str, int]:
    """Split by a hash of the names: a tenth each for validation and test, one picture of each at least."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held = max(1, len(ranked) // 10)
    return {name: 1 if rank < held else 2 if rank < 2 * held else 0 for rank, name in enumerate(ranked)}
