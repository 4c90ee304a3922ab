"""Where a population's pictures come from: folders of one's own, or what easel brings along."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.central import split_pictures
from shared_model.config import TrainConfig
from shared_model.errors import ConfigError, InputError
from shared_model.files import read_bytes
from shared_model.images import find_pictures
from simulations.dealt_people import hands

__all__ = ["Group", "Sources", "folder_sources"]


@dataclass(frozen=True)
class Group:
    """Pictures that belong together: the works of one hand, the photos of one place.

    Parameters
    ----------
    label
        In a few words.
    files
        The pictures.
    """

    label: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Sources:
    """All pictures of a population before they are dealt.

    Parameters
    ----------
    photos
        By domain; one group where photos are all of one kind.
    hands
        Artworks by hand.
    held_photos, held_art
        Held out: nobody's.
    test_photos
        Photos kept for personal tests; empty: some of ``photos`` are.
    """

    photos: tuple[Group, ...]
    hands: tuple[Group, ...]
    held_photos: tuple[Path, ...]
    held_art: tuple[Path, ...]
    test_photos: tuple[Path, ...] = ()


def folder_sources(photos: Sequence[str], art: Sequence[str], splits: str = "") -> Sources:
    """Find the pictures of folders, and hold some out.

    Parameters
    ----------
    photos, art
        Folders. Photos of one subfolder are one domain; artworks of one subfolder, or whose names begin
        alike, are one hand's.
    splits
        A JSON file that names the held-out pictures in lists ``photos_val`` and ``art_test``, relative to
        the file; empty: a tenth of each kind, chosen by the files' content, is held out.

    Raises
    ------
    InputError
        If a folder is missing or one kind of pictures is.
    ConfigError
        If ``splits`` cannot be used.
    """
    if not photos or not art:
        raise InputError("both photos and artworks are needed", hint="name folders of both, or of neither")
    if splits:
        held_photos, held_art = _named(Path(splits), "photos_val"), _named(Path(splits), "art_test")
    else:
        held_photos, held_art = _by_content(photos), _by_content(art)
    out = {path.resolve() for path in (*held_photos, *held_art)}
    return Sources(
        tuple(group for folder in photos for group in _domains(folder, out)),
        tuple(
            Group(_label(hand[0], Path(folder)), kept)
            for folder in art
            for hand in hands(find_pictures([folder]), Path(folder))
            if (kept := _without(hand, out))
        ),
        tuple(held_photos),
        tuple(held_art),
    )


def shuffled(sources: Sources, dice: random.Random) -> tuple[list[tuple[str, Path]], list[Group], Sources]:
    """Return photos with their domain, hands, and the sources with what is held out, each in random order."""
    photos = [(group.label, path) for group in sources.photos for path in group.files]
    works = list(sources.hands)
    held_photos, held_art = list(sources.held_photos), list(sources.held_art)
    dice.shuffle(photos)
    dice.shuffle(works)
    dice.shuffle(held_photos)
    dice.shuffle(held_art)
    kept = Sources(sources.photos, sources.hands, tuple(held_photos), tuple(held_art), sources.test_photos)
    return photos, works, kept


def _domains(folder: str, out: set[Path]) -> list[Group]:
    """Group photos by the folder that they lie in."""
    groups: dict[Path, list[Path]] = {}
    for path in find_pictures([folder]):
        groups.setdefault(path.parent, []).append(path)
    return [Group(parent.name, kept) for parent, files in groups.items() if (kept := _without(files, out))]


def _without(files: Sequence[Path], out: set[Path]) -> tuple[Path, ...]:
    return tuple(path for path in files if path.resolve() not in out)


def _label(path: Path, root: Path) -> str:
    own_folder = path.parent.resolve() != root.resolve()
    return path.parent.name if own_folder else path.stem.replace("_", " ").replace("-", " ").split()[0].lower()


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
