"""One video painted: segment by segment, steadily, and able to go on after being killed.

All frames are painted with one seed, so strokes and noise are the same in every frame, and one head, so its code is
too; :mod:`shared_model.temporal` carries them along the motion. Beside the target a folder of a hidden name keeps
what is finished: segments, and the state that the next frame needs. Running the same command again goes on after the
last finished segment and ends with the same pictures as if it had never stopped. When all is painted the target is
written in one piece and the folder removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from client.batch import Painter
from client.console import Advance, Console
from client.footage import Facts, Footage, Limits, Shot, open_footage
from client.outputs import Job
from client.recipe import Recipe
from client.reel import can_hold, check_space, join, read_comment, segment
from shared_model.errors import InputError, Interrupted, StorageError
from shared_model.files import write_atomic
from shared_model.images import to_tensor, to_uint8
from shared_model.stylize import MAX_SIDE
from shared_model.temporal import Blend, State, follow, stabilise

__all__ = ["SEGMENT", "Painted", "paint_film", "read_recipe"]

SEGMENT = 24  # frames of a segment
_FORMAT = 2  # another whenever frames would not be painted as those that are there
_STATE = "state.safetensors"


@dataclass(frozen=True)
class Painted:
    """What became of a video.

    Attributes
    ----------
    height, width
        Of a painted frame, before an odd one is filled up.
    frames
        How many there are.
    resumed
        How many of them had been painted before.
    damaged
        Damaged packets of the source that were skipped.
    target
        Where it is: the job's, or the next free name if that was taken meanwhile.
    """

    height: int
    width: int
    frames: int
    resumed: int
    damaged: int
    target: Path


def read_recipe(path: Path | str) -> Recipe:
    """Read the recipe embedded in a video that easel painted.

    Raises
    ------
    InputError
        If it carries none.
    """
    settings = read_comment(Path(path))
    if not settings:
        raise InputError(f"{path} carries no easel settings", hint="only what easel painted can be replayed")
    return Recipe.from_settings(settings)


def paint_film(
    job: Job,
    *,
    painter: Painter,
    console: Console,
    blend: Blend | None = None,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Painted:
    """Paint one video.

    Parameters
    ----------
    job
        The video and where the painting goes.
    painter
        Its recipe's ``size_px`` is the short side of the result.
    blend
        How steady; see :class:`shared_model.temporal.Blend`.
    limits
        See :class:`client.footage.Limits`.

    Raises
    ------
    InputError
        If the video cannot be read, or the target cannot hold its sound.
    StorageError
        If the disk is full, or another easel paints the same target.
    Interrupted
        On Ctrl-C; finished segments stay.
    """
    blend = blend or Blend()
    with open_footage(job.source, limits=limits) as footage:
        size = _size(footage.facts, painter.recipe.options.size_px)
        if not can_hold(job.target.suffix, footage.facts.sound):
            raise InputError(
                f"a {job.target.suffix} file cannot hold the sound of {job.source} ({footage.facts.sound})",
                hint=f"use -o {job.target.with_suffix('.mkv').name}",
            )
        if footage.facts.hdr:
            console.warn(f"{job.source} has a high dynamic range; it is painted as an ordinary video and may look flat")
        with _Folder.beside(job, painter.recipe, size, blend) as folder:
            if folder.frames:
                console.note(f"going on after frame {folder.frames}")
            resumed = folder.frames
            try:
                with console.progress("painting video") as advance:
                    _paint(footage, folder, painter, blend=blend, size=size, advance=advance, clock=clock)
            except KeyboardInterrupt as stop:
                raise Interrupted(
                    f"stopped: {folder.frames} frames are finished", hint="run the same command again to go on"
                ) from stop
            parts = [folder.part(number) for number in range(folder.segments)]
            scratch = folder.path / f"whole{job.target.suffix}"
            settings, rate = painter.settings(job.source), footage.facts.rate

            def write(target: Path, over: bool) -> bool:
                return join(
                    parts, target, source=job.source, scratch=scratch, settings=settings, rate=rate, replace=over
                )

            target = job.settle(write)
            folder.remove()
            return Painted(*size, folder.frames, resumed, footage.damaged, target)


def _paint(
    footage: Footage,
    folder: _Folder,
    painter: Painter,
    *,
    blend: Blend,
    size: tuple[int, int],
    advance: Advance,
    clock: Callable[[], float],
) -> None:
    """Paint all segments that are not finished."""
    shots = islice(footage.shots(size), folder.frames, None)
    began, before = clock(), folder.frames
    for first in shots:
        check_space(folder.path, frames=SEGMENT, size=size, kept=folder.kept())
        state, count = folder.state, 0
        with segment(folder.part(folder.segments), size=size, rate=footage.facts.rate) as write:
            for shot in chain([first], islice(shots, SEGMENT - 1)):
                state = _paint_shot(shot, state, painter, blend)
                write(to_uint8(state.painting), shot.time)
                count += 1
                done = folder.frames + count
                speed = (done - before) / max(clock() - began, 1e-9)
                advance(min(1.0, done / max(footage.facts.frames, done)), f"frame {done}, {speed:.2g} frames/s")
        assert state is not None
        folder.finish_segment(state, count)


def _paint_shot(shot: Shot, state: State | None, painter: Painter, blend: Blend) -> State:
    """Paint a frame and steady it."""
    photo = to_tensor(shot.rgb)
    step = follow(state, photo, blend=blend)
    painting = painter.engine.stylize(photo, painter.head, options=painter.frame_options(), scene=step.scene)
    return stabilise(state, photo, painting, blend=blend, step=step)[1]


@dataclass
class _Folder:
    """What is finished of a video.

    Attributes
    ----------
    path
        The folder.
    segments, frames
        How many are finished.
    state
        After the last finished frame, on 8-bit levels, so that it is the same whether kept in memory or read again.
    """

    path: Path
    segments: int = 0
    frames: int = 0
    state: State | None = None

    @classmethod
    @contextlib.contextmanager
    def beside(cls, job: Job, recipe: Recipe, size: tuple[int, int], blend: Blend) -> Iterator[_Folder]:
        """Open the folder of a job, alone; what another job left there is thrown away."""
        about = job.source.stat()
        plan = {
            "format": _FORMAT,
            "source": [str(job.source.resolve()), about.st_size, about.st_mtime_ns],
            "recipe": recipe.to_settings(),
            "size": list(size),
            "segment": SEGMENT,
            "blend": asdict(blend),
        }
        folder = cls(job.target.parent / f".{job.target.name}.easel")
        with _locked(folder.path):
            if folder.plan() != plan:
                folder.clear()
                write_atomic(folder.path / "plan.json", json.dumps(plan).encode(), mode=0o600)
            folder.load()
            yield folder

    def part(self, number: int) -> Path:
        """Return where a segment lies."""
        return self.path / f"{number:06d}.nut"

    def kept(self) -> int:
        """Return how many bytes the finished segments have."""
        return sum(self.part(number).stat().st_size for number in range(self.segments))

    def plan(self) -> object:
        """Return what the folder was made for, ``None`` if nothing or damaged."""
        try:
            return json.loads((self.path / "plan.json").read_bytes())
        except (OSError, ValueError):
            return None

    def load(self) -> None:
        """Find what is finished; with anything missing or damaged, nothing is."""
        try:
            data = (self.path / _STATE).read_bytes()
            held = safetensors.torch.load(data)
            segments, frames = (int(v) for v in held["finished"])
            photo, painting = (held[name].float() / 255 for name in ("photo", "painting"))
            scene = held["scene"].float()
        except (OSError, SafetensorError, LookupError, ValueError):
            return
        fits = scene.shape == (1, 2, *photo.shape[-2:]) and bool(scene.isfinite().all())
        if fits and all(self.part(number).is_file() for number in range(segments)):
            self.segments, self.frames, self.state = segments, frames, State(photo, painting, scene)

    def finish_segment(self, state: State, count: int) -> None:
        """Remember that one more segment of ``count`` frames is there; its file was written before."""
        levels = [(x * 255).round().to(torch.uint8) for x in (state.photo, state.painting)]
        finished = torch.tensor([self.segments + 1, self.frames + count])
        held = {"photo": levels[0], "painting": levels[1], "scene": state.scene.contiguous(), "finished": finished}
        write_atomic(self.path / _STATE, safetensors.torch.save(held), mode=0o600)
        self.segments, self.frames = self.segments + 1, self.frames + count
        self.state = State(levels[0].float() / 255, levels[1].float() / 255, state.scene)

    def clear(self) -> None:
        """Remove what easel left in the folder, and nothing else."""
        for path in self.path.glob("*"):
            if path.suffix in (".nut", ".part", ".mp4", ".mov", ".mkv") or path.name in ("plan.json", _STATE):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder, made if need be, for this process alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(f"another easel is painting there: {path}", hint="wait until it has finished") from error
        yield
    finally:
        os.close(handle)


def _size(facts: Facts, short_px: int | None) -> tuple[int, int]:
    """Return (height, width) of the result."""
    scale = 1.0 if short_px is None else short_px / min(facts.height, facts.width)
    height, width = (max(2, round(side * scale)) for side in (facts.height, facts.width))
    if max(height, width) > MAX_SIDE or height * width > Limits().pixels:
        raise InputError(f"frames of {width}x{height} pixels are too large", hint="choose a smaller --size")
    return height, width
