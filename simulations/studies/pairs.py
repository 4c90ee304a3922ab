"""Pairs of photos and paintings to measure on: read from a file, found in folders, drawn anew.

A pairs file is a JSON list of ``{"content": NAME, "style": NAME}``. A name is a file's stem
(``102061``) or, where several files share one, its path below the folder (``painters/monet/harbor``).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from client.console import Console
from client.parser import Parser
from shared_model.errors import InputError
from shared_model.files import read_bytes, write_atomic
from shared_model.images import find_pictures
from simulations.studies import study_parser

__all__ = ["Pair", "PictureIndex", "draw_pairs", "parser", "read_pairs", "read_splits", "run", "split_files"]


@dataclass(frozen=True)
class Pair:
    """One photo and the painting whose style it gets, by name."""

    content: str
    style: str

    @property
    def slug(self) -> str:
        """A file name for the painted photo."""
        return f"{self.content}__{self.style}".replace("/", "-")


class PictureIndex:
    """The pictures of a folder by name."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._found: dict[str, list[Path]] = {}
        for path in find_pictures([self.folder]):
            relative = PurePosixPath(path.relative_to(self.folder).as_posix())
            for name in dict.fromkeys((relative.stem, str(relative.with_suffix("")), str(relative))):
                self._found.setdefault(name, []).append(path)

    def __getitem__(self, name: str) -> Path:
        """Return the file called ``name``.

        Raises
        ------
        InputError
            If there is none, or more than one.
        """
        found = self._found.get(name, [])
        if len(found) != 1:
            what = "no picture" if not found else f"{len(found)} pictures"
            raise InputError(f"{self.folder} holds {what} called {name!r}", hint="name it by its path below the folder")
        return found[0]

    def shortest(self, path: str) -> str:
        """Return the shortest unambiguous name of the picture at ``path`` below the folder."""
        stem = PurePosixPath(path).stem
        return stem if len(self._found.get(stem, [])) == 1 else str(PurePosixPath(path).with_suffix(""))


def read_pairs(path: Path | str) -> list[Pair]:
    """Read a pairs file, every pair once.

    Raises
    ------
    InputError
        If it holds anything else, or nothing.
    """
    try:
        entries = json.loads(read_bytes(path, limit=1 << 20))
        pairs = [Pair(str(entry["content"]), str(entry["style"])) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a list of pairs", hint='expected [{"content": NAME, "style": NAME}, ...]'
        ) from error
    if not pairs:
        raise InputError(f"{path} holds no pair")
    return list(dict.fromkeys(pairs))


def draw_pairs(
    contents: Sequence[str], styles: Sequence[str], *, count: int, seed: int, avoid: Iterable[Pair] = ()
) -> list[Pair]:
    """Draw pairs from names, so that photos and paintings recur as seldom as possible.

    Neither a photo nor a painting of ``avoid`` is used, so what is measured is new in both. (Two
    reproductions of one painting under two names cannot be told from the names.)

    Raises
    ------
    InputError
        If too few are left for ``count`` different pairs.
    """
    avoided = list(avoid)
    known = {pair.content for pair in avoided}, {pair.style for pair in avoided}
    photos = sorted(name for name in set(contents) if PurePosixPath(name).stem not in known[0] and name not in known[0])
    arts = sorted(name for name in set(styles) if PurePosixPath(name).stem not in known[1] and name not in known[1])
    if not photos or not arts or count > len(photos) * len(arts):
        raise InputError(f"{len(photos)} photos and {len(arts)} paintings are left, too few for {count} pairs")
    random_state = random.Random(seed)
    random_state.shuffle(photos)
    random_state.shuffle(arts)
    # After every common multiple of both lengths the paintings move on by one: no pair comes twice.
    turns = [(turn, turn + turn // math.lcm(len(photos), len(arts))) for turn in range(count)]
    return [Pair(photos[turn % len(photos)], arts[moved % len(arts)]) for turn, moved in turns]


def read_splits(path: Path | str) -> dict[str, list[str]]:
    """Read a splits file: names of splits to lists of paths.

    Raises
    ------
    InputError
        If it is anything else.
    """
    try:
        splits = json.loads(read_bytes(path, limit=16 << 20))
        return {str(key): [str(entry) for entry in value] for key, value in splits.items() if isinstance(value, list)}
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a table of splits", hint='expected {"photos_val": [PATH, ...], ...}'
        ) from error


def split_files(splits: Mapping[str, Sequence[str]], key: str, folder: Path | str) -> list[str]:
    """Return the pictures of a split that lie in ``folder``, by their paths below it.

    A split may name them from a folder further up (``art/monet.jpg`` is found in ``art/``, too).

    Raises
    ------
    InputError
        If there is none.
    """
    kept = []
    for entry in splits.get(key, ()):
        parts = PurePosixPath(entry).parts
        below = ("/".join(parts[start:]) for start in range(len(parts)))
        kept += [name for name in below if (Path(folder) / name).is_file()][:1]
    if not kept:
        raise InputError(f"none of the pictures of {key!r} lies in {folder}", hint="check --splits and the folder")
    return kept


def parser() -> Parser:
    """Return the options of ``easel-sim study pairs``."""
    made = study_parser(
        "pairs",
        description="Draw fresh pairs of photos and paintings that training never saw, and write a pairs file.",
        example="easel-sim study pairs --photos photos --art art --splits splits.json --count 24 -o fresh.json",
    )
    made.add_argument("--photos", required=True, metavar="DIR", help="folder of photos")
    made.add_argument("--art", required=True, metavar="DIR", help="folder of paintings")
    made.add_argument("--splits", required=True, metavar="FILE", help="JSON: lists of paths by name of the split")
    made.add_argument("--photo-split", default="photos_val", metavar="NAME", help="(default: %(default)s)")
    made.add_argument("--art-split", default="art_test", metavar="NAME", help="(default: %(default)s)")
    made.add_argument("--avoid", nargs="*", default=[], metavar="FILE", help="pairs files whose pictures are not used")
    made.add_argument("--count", type=int, default=24, metavar="N", help="pairs to draw (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="(default: %(default)s)")
    made.add_argument("-o", "--out", required=True, metavar="FILE", help="the pairs file to write")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Draw and write."""
    if parsed.count < 1:
        raise InputError("count must be at least 1")
    splits = read_splits(parsed.splits)
    photos, arts = PictureIndex(parsed.photos), PictureIndex(parsed.art)
    avoid = [pair for path in parsed.avoid for pair in read_pairs(path)]
    pairs = draw_pairs(
        [photos.shortest(path) for path in split_files(splits, parsed.photo_split, parsed.photos)],
        [arts.shortest(path) for path in split_files(splits, parsed.art_split, parsed.art)],
        count=parsed.count,
        seed=parsed.seed,
        avoid=avoid,
    )
    entries = [{"content": pair.content, "style": pair.style} for pair in pairs]
    write_atomic(parsed.out, (json.dumps(entries, indent=1) + "\n").encode())
    console.say(f"wrote {parsed.out}: {len(pairs)} pairs, {len({pair.style for pair in pairs})} paintings")
    console.facts(entries)
    return 0
