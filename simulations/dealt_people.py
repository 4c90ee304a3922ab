"""People made from two folders of one's own: photos and artworks are dealt to them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from shared_model.errors import InputError, PictureError
from shared_model.images import find_pictures, load_tensor, to_uint8
from simulations.population import Follow, Pixels, Population, clear, keep_out, name_of, settle, shrunk
from simulations.settings import DemoConfig

__all__ = ["deal_population", "hands"]

Note = Callable[[str], None]


def deal_population(folder: Path, *, config: DemoConfig, follow: Follow, note: Note) -> Population:
    """Deal the pictures of two folders to people, each of whom prefers one hand.

    Photos are dealt at random, some are held out. Held-out artworks are those of hands that are left
    over; where none is, the last work of some hands that have more; where no hand has, artworks that
    somebody owns, and :attr:`Population.judged_owned` says so.

    Parameters
    ----------
    folder
        The run's folder; ``devices`` and ``held_out`` in it are made anew.
    config
        The two folders, and number and size of everything.
    follow
        Told the fraction done and whose pictures are being read.
    note
        Told about files that cannot be read; they are left out.

    Raises
    ------
    InputError
        If a folder is missing or has too few pictures that can be read.
    """
    dice = random.Random(f"{config.seed}/deal")
    photos, works = find_pictures([config.photos]), hands(find_pictures([config.art]), Path(config.art))
    dice.shuffle(photos)
    dice.shuffle(works)
    shown = _readable(photos, config.paintings, config.paint_px, note)
    rest = photos[photos.index(shown[-1][0]) + 1 :]
    if len(rest) < 2:
        raise InputError(
            f"{config.photos} has only {len(photos)} photos; {config.paintings + 2} are needed",
            hint="add photos, or lower `paintings` in a --config file",
        )
    spare, owned = _spare_works(works, config)
    judged = _readable(spare, config.heads, config.pictures_px, note)
    clear(folder)
    people = []
    for index in range(config.devices):
        follow(index / config.devices, f"{name_of(index)} gets pictures")
        start = index * config.photos_each
        turn = [rest[(start + step) % len(rest)] for step in range(min(len(rest), config.photos_each + 5))]
        own = _readable(turn, config.photos_each, config.pictures_px, note)
        art = _next_hand(works, index, config, note)
        style = _style(art[0][0], Path(config.art), alone=len(art) == 1)
        pictures = [rgb for _, rgb in own], [rgb for _, rgb in art]
        people.append(settle(folder, index, style, photos=pictures[0], art=pictures[1], config=config))
    return Population(
        "folders",
        f"up to {config.photos_each} photos and up to {config.art_each} works of one hand",
        tuple(people),
        keep_out(folder, "photos", [(_title(path), rgb) for path, rgb in shown]),
        keep_out(folder, "art", [(_title(path), rgb) for path, rgb in judged]),
        judged_owned=owned,
    )


def hands(paths: Sequence[Path], root: Path) -> list[list[Path]]:
    """Group artworks by painter: by subfolder, else by the first word of their file names.

    Examples
    --------
    >>> [[p.name for p in hand] for hand in hands([Path("a/klee_1.png"), Path("a/klee_2.png")], Path("a"))]
    [['klee_1.png', 'klee_2.png']]
    """
    groups: dict[str, list[Path]] = {}
    for path in paths:
        key = f"/{path.parent}" if _in_own_folder(path, root) else re.split(r"[_\W]", path.stem)[0].lower()
        groups.setdefault(key, []).append(path)
    return list(groups.values())


def _spare_works(works: list[list[Path]], config: DemoConfig) -> tuple[list[Path], bool]:
    """Take artworks to hold out from ``works``; tell whether they stay somebody's."""
    left = [work for hand in works[config.devices :] for work in hand[:1]]
    if left:
        del works[config.devices :]
        return left, False
    rich = [hand for hand in works if len(hand) > 1][: config.heads]
    if rich:
        return [hand.pop() for hand in rich], False
    return [hand[0] for hand in works], True


def _next_hand(works: list[list[Path]], index: int, config: DemoConfig, note: Note) -> list[tuple[Path, Pixels]]:
    """Read the hand whose turn it is; a hand of which nothing can be read is dropped from ``works``."""
    while True:
        hand = works[index % len(works)]
        try:
            return _readable(hand, config.art_each, config.pictures_px, note)
        except PictureError:
            if len(works) == 1:
                raise
            works.remove(hand)


def _readable(paths: Sequence[Path], count: int, short_px: int, note: Note) -> list[tuple[Path, Pixels]]:
    """Read the first ``count`` pictures that can be read; tell ``note`` about the others.

    Raises
    ------
    PictureError
        If none can be read.
    """
    found: list[tuple[Path, Pixels]] = []
    errors: list[PictureError] = []
    for path in paths:
        if len(found) == count:
            break
        try:
            found.append((path, shrunk(to_uint8(load_tensor(path)), short_px)))
        except PictureError as error:
            errors.append(error)
            note(f"left out: {error.message}")
    if not found:
        raise errors[0]
    return found


def _in_own_folder(path: Path, root: Path) -> bool:
    return path.parent.resolve() != root.resolve()


def _style(path: Path, root: Path, *, alone: bool) -> str:
    if _in_own_folder(path, root):
        return f"pictures like those of {_title(path.parent)}"
    return _title(path) if alone else f"{_title(path)} and more by that hand"


def _title(path: Path) -> str:
    words = re.sub(r"[_-]+", " ", path.stem).strip().capitalize()
    return words if re.search(r"[^\W\d]", words) else f"Picture {words or path.name}"
