"""Many videos through one warm engine: which are meant, what they become, and what is said about them."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from client.batch import Painter, Tally
from client.console import Console, format_seconds
from client.film import Painted, paint_film
from client.footage import NAMES, is_video, open_footage
from client.outputs import Job, Kind, Source
from client.reel import SAVE_SUFFIXES, can_hold, read_comment
from shared_model.errors import EaselError, InputError, StorageError

__all__ = ["FILMS", "find_videos", "paint_films", "with_suffix"]

FILMS = Kind(".mp4", NAMES, SAVE_SUFFIXES, read_comment)


def find_videos(arguments: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Take the videos, named or meant by a pattern, out of ``arguments``; folders are searched for photos only.

    Returns
    -------
    tuple
        The videos, each once, without those that easel painted where a pattern found them; and the other arguments.
    """
    found: dict[Path, Source] = {}
    others = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if not is_video(argument) or path.is_dir():
            others.append(argument)
        elif path.exists() or not glob.has_magic(argument):
            found.setdefault(path.resolve(), Source(path))
        else:
            for match in sorted(glob.glob(str(path), recursive=True)):
                if not read_comment(Path(match)):
                    found.setdefault(Path(match).resolve(), Source(Path(match)))
    if not found and not others:
        raise InputError(f"no videos found in {', '.join(arguments)}", hint="check the path")
    return list(found.values()), others


def with_suffix(source: Source) -> Source:
    """Say what a video becomes: the usual MP4, or Matroska where MP4 cannot hold its sound as it is."""
    try:
        with open_footage(source.path) as footage:
            return source if can_hold(FILMS.suffix, footage.facts.sound) else replace(source, suffix=".mkv")
    except InputError:
        return source  # said when its turn comes


def paint_films(
    jobs: Sequence[Job],
    *,
    painter: Painter,
    console: Console,
    tally: Tally,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Paint every video that is not done yet, into ``tally``.

    Raises
    ------
    Interrupted
        On Ctrl-C; finished parts stay.
    StorageError
        If something cannot be written.
    """
    for job in jobs:
        if job.done:
            tally.add(job, "skipped", {})
            console.say(f"{job.target} is there already, painted with the same settings")
            continue
        begin = clock()
        try:
            made = paint_film(job, painter=painter, console=console, clock=clock)
        except StorageError:
            raise
        except EaselError as error:
            if error.exit_code == 130:
                raise
            tally.exit_code = tally.exit_code or error.exit_code
            tally.add(job, "failed", {"error": error.message, "hint": error.hint})
            console.error(error, subject="" if str(job.source) in error.message else str(job.source))
            continue
        _tell(job, made, clock() - begin, console=console, tally=tally)


def _tell(job: Job, made: Painted, seconds: float, *, console: Console, tally: Tally) -> None:
    job = replace(job, target=made.target)
    if made.damaged:
        console.warn(f"{job.source}: {made.damaged} damaged pieces were left out")
    facts = {"width": made.width, "height": made.height, "frames": made.frames, "resumed": made.resumed}
    tally.add(job, "painted", facts | {"seconds": round(seconds, 3)})
    speed = (made.frames - made.resumed) / max(seconds, 1e-9)
    told = f"{made.width} x {made.height}, {made.frames} frames, {format_seconds(seconds)}, {speed:.2g} frames/s"
    console.say(f"{job.target}  {told}")
