"""A folder that is painted as it fills: looked at again and again, which works on every file system.

A file is taken when it has stayed the same for one look, so that what a camera or browser is still writing is left
alone. What easel painted is no photo, a picture that cannot be read is reported once, and again when it changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from client.batch import Painter, paint_files
from client.console import Console
from client.outputs import Source, find_sources, plan
from shared_model.errors import EaselError, InputError

__all__ = ["Watch"]

_Look = tuple[int, int]  # size and time of change


@dataclass
class Watch:
    """A watched folder.

    Attributes
    ----------
    folder
        Whose pictures, those of sub-folders too, are painted.
    out
        Where paintings go, sub-folders kept; ``None`` for beside each photo.
    painter
        How they are painted.
    console
        Where results and mistakes are told.
    exit_code
        0, or that of the first picture that failed.
    painted
        How many were painted.
    """

    folder: Path
    out: Path | None
    painter: Painter
    console: Console
    exit_code: int = 0
    painted: int = 0
    _seen: dict[Path, _Look] = field(default_factory=dict, repr=False)
    _done: dict[Path, _Look] = field(default_factory=dict, repr=False)

    def run(self, *, every_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Look and paint until Ctrl-C.

        Raises
        ------
        InputError
            If the folder goes away, or is closed to this user.
        StorageError
            If a painting cannot be written.
        KeyboardInterrupt
            On Ctrl-C.
        """
        while True:
            self.look()
            sleep(every_s)

    def look(self) -> int:
        """Paint what has arrived in full since the last look; returns how many pictures that were."""
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is no folder any more", hint="start again when it is back")
        if not os.access(self.folder, os.R_OK | os.X_OK):
            raise InputError(f"{self.folder} cannot be read", hint="check its permissions")
        ready = []
        found = self._find()
        for source in found:
            try:
                about = source.path.stat()
            except OSError:
                continue  # gone again
            look = (about.st_size, about.st_mtime_ns)
            if self._done.get(source.path) != look:
                if self._seen.get(source.path) == look and about.st_size:
                    ready.append(source)
                self._seen[source.path] = look
        self._forget(source.path for source in found)
        return sum(self._paint(source) for source in ready)

    def _find(self) -> list[Source]:
        """Return the photos in the folder, without paintings; none is no mistake here."""
        try:
            sources, _ = find_sources([str(self.folder)])
        except EaselError:
            return []
        out = self.out.resolve() if self.out else None
        inside = out is not None and out != self.folder.resolve()
        return [s for s in sources if not (inside and s.path.resolve().is_relative_to(out or ""))]

    def _paint(self, source: Source) -> int:
        """Paint one photo; 1 if that was done."""
        look = self._seen[source.path]
        out = None if self.out is None else f"{self.out}/"
        recipe = self.painter.recipe
        jobs = plan([source], out=out, tag=recipe.head or "styled", recipe=recipe, marks=self.painter.marks)
        if jobs[0].done:
            self._done[source.path] = look
            return 0
        tally = paint_files(jobs, painter=self.painter, console=self.console)
        self._done[source.path] = look
        self.exit_code = self.exit_code or tally.exit_code
        self.painted += tally.count("painted")
        return tally.count("painted")

    def _forget(self, present: Iterable[Path]) -> None:
        """Drop what is no longer there, so that nothing grows over weeks."""
        kept = set(present)
        for memory in (self._seen, self._done):
            for path in memory.keys() - kept:
                del memory[path]
