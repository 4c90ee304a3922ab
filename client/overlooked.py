"""What a person may miss: files in named folders and patterns that easel passes over."""

from __future__ import annotations

import glob
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.footage import is_video
from client.reel import read_comment
from shared_model import folders, heic
from shared_model.errors import MissingError

__all__ = ["overlooked"]

# Photos of cameras, and of programs, that easel does not read; HEIC it does where the extra of that name is installed.
_UNREADABLE = frozenset(".arw .cr2 .cr3 .dng .jxl .nef .orf .psd .raf .rw2".split())


def overlooked(arguments: Sequence[str]) -> list[str]:
    """Return a sentence for each kind of thing that is passed over: videos, and photos that cannot be read."""
    told, kinds, film = [], Counter[str](), ""
    unreadable = _UNREADABLE | {*heic.SUFFIXES} - {*folders.SUFFIXES}
    for path in _files(arguments):
        kinds[path.suffix.lower()] += path.suffix.lower() in unreadable
        if not film and is_video(path) and not _is_painting(path):
            film = shlex.quote(str(path.parent / f"*{path.suffix}"))
    if film:
        told.append(f"videos are painted where they are named; to paint these too: easel stylize {film} ...")
    if counts := ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if count):
        extra = " (HEIC also: pip install 'easel[heic]')" if any(kinds[suffix] for suffix in heic.SUFFIXES) else ""
        told.append(f"left out {counts}: kinds of photos that easel cannot read; convert them to JPEG first{extra}")
    return told


def _files(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield what is in folders and matches patterns, hidden things aside; not what is named itself."""
    for argument in arguments:
        given = Path(argument).expanduser()
        if os.path.isfile(given):
            continue
        places = [given] if os.path.exists(given) else map(Path, glob.glob(str(given), recursive=True))
        for place in places:
            for path in place.rglob("*") if os.path.isdir(place) else [place]:
                if os.path.isfile(path) and not any(part.startswith(".") for part in path.relative_to(place).parts):
                    yield path


def _is_painting(path: Path) -> bool:
    try:
        return bool(read_comment(path))
    except MissingError:
        return False
