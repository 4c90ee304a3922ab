"""Which files are pictures: those named, and those that folders and patterns hold."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from shared_model import heic
from shared_model.errors import InputError, PictureError

__all__ = ["SUFFIXES", "find_pictures"]

_PILLOW = (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SUFFIXES = tuple(sorted((*_PILLOW, *(heic.SUFFIXES if heic.installed() else ()))))


def find_pictures(paths: Iterable[str | Path]) -> list[Path]:
    """List the picture files meant by files, folders (with subfolders) and glob patterns.

    ``~`` is the home folder. In folders and patterns only files that end in one of `SUFFIXES`
    count and hidden ones are skipped; a file given by name is taken as it is.

    Returns
    -------
    list of Path
        Each file once, in natural order (``2.jpg`` before ``10.jpg``).

    Raises
    ------
    PictureError
        If a file or folder given by name does not exist.
    InputError
        If nothing is found.
    """
    given = [os.path.expanduser(path) for path in paths]
    found: dict[str, Path] = {}
    for item in given:
        for path in _expand(item):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        where = ", ".join(given) or "an empty list"
        raise InputError(f"no pictures found in {where}", hint=f"looked for files ending in {', '.join(SUFFIXES)}")
    return sorted(found.values(), key=_natural_key)


def _expand(item: str) -> Iterator[Path]:
    if os.path.isdir(item):
        for folder, subfolders, names in os.walk(item, onerror=_closed(item)):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from (Path(folder, name) for name in names if _is_picture_name(name))
    elif os.path.exists(item):
        yield Path(item)
    elif glob.has_magic(item):
        for match in glob.glob(item, recursive=True):
            if os.path.isdir(match) or _is_picture_name(os.path.basename(match)):
                yield from _expand(match)
    else:
        raise PictureError(f"{item} does not exist", hint="check the path")


def _closed(item: str) -> Callable[[OSError], None]:
    """Say that a folder which was named is closed to this user; closed ones inside of it are passed over."""

    def tell(error: OSError) -> None:
        if error.filename == item:
            raise PictureError(f"cannot read {item}: {error.strerror}", hint="check the path and its permissions")

    return tell


def _is_picture_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    def key(part: str) -> list[str | int]:
        pieces = re.split(r"(\d+)", part.casefold())  # text and digits alternate, so equal places compare
        return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]

    return [key(part) for part in path.parts], str(path)
