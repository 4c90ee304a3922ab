"""Where painted pictures go: names that never cost anybody a file, and what need not be painted again.

The rules, the same for one picture and for a thousand:

- Without ``-o`` a picture goes beside its photo as ``<photo>-<head>.png``; with a folder, into the folder under
  that name, sub-folders kept; with a file name, there.
- A name that is taken gets a number: ``<photo>-<head>-2.png``. A file named by hand is refused instead.
- A picture that is there already, painted with the same settings and newer than its photo, is left alone: running
  an interrupted command again goes on where it stopped.
- ``overwrite`` replaces instead of numbering, refusing and skipping.
- Pictures that easel painted are skipped inside folders and patterns: painting a folder twice does not paint the
  paintings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from client.marks import Marks
from client.recipe import Recipe
from shared_model.errors import EaselError, InputError
from shared_model.heic import SUFFIXES as HEIC_SUFFIXES
from shared_model.images import SAVE_SUFFIXES, SUFFIXES, find_pictures, read_settings

__all__ = ["PICTURES", "Job", "Kind", "Source", "find_sources", "plan"]


@dataclass(frozen=True)
class Source:
    """One photo to paint.

    Attributes
    ----------
    path
        The file.
    folder
        Its folder below the folder that was named, to be kept in the output.
    suffix
        Of the result where its name is made up; empty for the usual one of its kind.
    """

    path: Path
    folder: Path = Path()
    suffix: str = ""


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Attributes
    ----------
    source, target
        The photo and where the painting goes.
    done
        The painting is there already.
    replaces
        What has the target's name may be replaced.
    stem
        What further names are made of should the target's be taken meanwhile; empty where it was chosen by hand.
    """

    source: Path
    target: Path
    done: bool = False
    replaces: bool = False
    stem: str = ""

    def settle(self, write: Callable[[Path, bool], bool]) -> Path:
        """Write the painting under the target's name, or the next one that is free; returns where.

        Hours may lie between plan and painting, and another easel may be at work in the same folder.

        Parameters
        ----------
        write
            Writes to a path, replacing what is there or not; returns whether it did.

        Raises
        ------
        InputError
            If the target was named by hand and is taken by now.
        """
        names = _names(self.target.parent, self.stem, self.target.suffix) if self.stem else iter(())
        for target in chain([self.target], names):
            if write(target, self.replaces):
                return target
        raise InputError(f"{self.target} was taken meanwhile", hint="choose another name, or add --overwrite")


@dataclass(frozen=True)
class Kind:
    """What is made: pictures or videos.

    Attributes
    ----------
    suffix
        Of a name that is made up.
    known, saved
        Suffixes that mean a file of this kind, and those of them that can be written.
    read
        Reads the settings out of one.
    """

    suffix: str
    known: tuple[str, ...]
    saved: tuple[str, ...]
    read: Callable[[Path], dict[str, object]]


_LONGEST = 220  # bytes of a name that is made up: 255 with a number, a suffix, and `.explain.png` or `..easel`
PICTURES = Kind(".png", (*SUFFIXES, *HEIC_SUFFIXES), SAVE_SUFFIXES, read_settings)  # .heic never means a folder


def find_sources(arguments: Sequence[str]) -> tuple[list[Source], int]:
    """Find the photos that files, folders and patterns mean.

    Returns
    -------
    tuple
        The photos, each once, and how many pictures painted by easel were left out.

    Raises
    ------
    InputError
        If nothing is found, or one of the arguments is not there.
    """
    found: dict[Path, Source] = {}
    skipped = 0
    for argument in arguments:
        given = Path(argument).expanduser()
        for path in find_pictures([argument]):
            if not given.is_file() and _painted(path):
                skipped += 1
                continue
            folder = path.parent.relative_to(given) if given.is_dir() else Path()
            found.setdefault(path.resolve(), Source(path=path, folder=folder))
    if not found:
        raise InputError(
            f"only pictures that easel painted are in {', '.join(arguments)}",
            hint="name a picture itself to paint it again",
        )
    return list(found.values()), skipped


def plan(
    sources: Sequence[Source],
    *,
    out: str | None,
    tag: str,
    recipe: Recipe,
    overwrite: bool = False,
    kind: Kind = PICTURES,
    marks: Marks | None = None,
) -> list[Job]:
    """Say where each painting goes; writes nothing.

    Parameters
    ----------
    out
        A file (one photo only), a folder, or ``None`` for beside each photo.
    tag
        What is added to the photo's name.
    kind
        What is made of them.
    marks
        Tell paintings of one photo from those of another.

    Raises
    ------
    InputError
        If ``out`` is a file that exists, cannot be written as a picture, or is meant for many photos.
    """
    looks = _Looks(recipe, kind, marks or Marks())
    if out is not None and names_a_file(out, kind=kind):
        return [_single(sources, Path(out).expanduser(), looks, overwrite=overwrite)]
    if out is not None and (blocker := Path(out).expanduser()).is_file():
        raise InputError(
            f"{blocker} is a file that cannot hold the result", hint=f"use a folder or {' '.join(kind.saved)}"
        )
    taken: set[Path] = set()
    jobs = []
    for source in sources:
        folder = source.path.parent if out is None else Path(out).expanduser() / source.folder
        jobs.append(_numbered(source, folder, looks, tag=tag, taken=taken, overwrite=overwrite))
        taken.add(jobs[-1].target)
    return jobs


def names_a_file(out: str, *, kind: Kind = PICTURES) -> bool:
    """Tell whether ``-o out`` means a file rather than a folder."""
    path = Path(out).expanduser()
    return not out.endswith(("/", "\\")) and not path.is_dir() and path.suffix.lower() in kind.known


@dataclass(frozen=True)
class _Looks:
    """What a painting is recognized by."""

    recipe: Recipe
    kind: Kind
    marks: Marks

    def done(self, source: Path, target: Path) -> bool:
        """Tell whether ``target`` is what the recipe makes of ``source``, painted after that was last changed."""
        try:
            if not target.is_file() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
                return False
            settings = self.kind.read(target)
            return self.recipe.same_painting(Recipe.from_settings(settings)) and not self.marks.deny(source, settings)
        except (EaselError, OSError):
            return False


def _single(sources: Sequence[Source], target: Path, looks: _Looks, *, overwrite: bool) -> Job:
    kind = looks.kind
    if len(sources) != 1:
        raise InputError(
            f"{len(sources)} photos cannot all go to {target}", hint="give -o a folder, such as -o painted/"
        )
    if target.suffix.lower() not in kind.saved:
        raise InputError(
            f"cannot save it as '{target.suffix}'", hint=f"use a name that ends in {', '.join(kind.saved)}"
        )
    source = sources[0].path
    done = not overwrite and looks.done(source, target)
    if target.exists() and not overwrite and not done:
        raise InputError(f"{target} is there already", hint="add --overwrite to replace it, or choose another name")
    return Job(source=source, target=target, done=done, replaces=overwrite or done)


def _numbered(source: Source, folder: Path, looks: _Looks, *, tag: str, taken: set[Path], overwrite: bool) -> Job:
    stem = _short(source.path.stem, f"-{tag}")
    for target in _names(folder, stem, source.suffix or looks.kind.suffix):
        if target in taken:
            continue
        if overwrite or not target.exists():
            return Job(source=source.path, target=target, replaces=overwrite, stem=stem)
        if looks.done(source.path, target):
            return Job(source=source.path, target=target, done=True, replaces=True, stem=stem)
    raise AssertionError("names never end")


def _short(stem: str, end: str) -> str:
    """Put an end to a name, which is cut where file systems would refuse it or what easel puts beside it."""
    while len(os.fsencode(stem + end)) > _LONGEST and stem:
        stem = stem[:-1]
    return stem + end


def _names(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    yield folder / f"{stem}{suffix}"
    number = 2
    while True:
        yield folder / f"{stem}-{number}{suffix}"
        number += 1


def _painted(path: Path) -> bool:
    try:
        return bool(read_settings(path))
    except EaselError:
        return False  # damaged: reported when its turn comes
