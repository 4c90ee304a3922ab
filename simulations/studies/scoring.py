"""Paint pairs with several hands and score them; whatever was done once is kept and used again.

A kept painting is marked with a key over the photo's and the paintings' bytes, the hand, the
options and the source code that paints; a kept score also with the metric's source code. Any change
makes it stale; nothing has to be deleted by hand.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import shared_model.metrics
from shared_model.config import STROKES
from shared_model.errors import PictureError
from shared_model.files import read_bytes, write_atomic
from shared_model.images import load_picture, read_settings, save_picture, to_tensor, to_uint8
from shared_model.metrics import Painting, photo_distances, score_pair
from shared_model.stylize import Options, stylize
from simulations.studies.hands import Hand, attuned, content_hash, fitted_head, load_hands, painting_key
from simulations.studies.pairs import Pair

__all__ = ["Job", "Row", "Workplace", "metric_code", "run_jobs"]

Row = dict[str, Any]  # content_image, style_image, hand and every number of the score


@dataclass(frozen=True)
class Job:
    """All photos that get one style: one head to fit, one painting to analyze.

    Parameters
    ----------
    arts
        The paintings that the head is fitted on.
    reference
        The painting that scores compare with; need not be among ``arts``.
    pairs
        Each with the file of its photo.
    """

    arts: tuple[Path, ...]
    reference: Path
    pairs: tuple[tuple[Pair, Path], ...]


@dataclass(frozen=True)
class Workplace:
    """Where a study keeps things, and how it paints; small enough to hand to another process.

    Parameters
    ----------
    folder
        Holds ``paintings/HAND/*.png`` with their scores beside them, ``heads/`` and ``analyses/``.
    backbones
        Files of the hands beside the head alone.
    palette
        Compare with the palette alone, too.
    options
        How everything is painted.
    own_s, broad
        See :func:`simulations.studies.hands.load_hands`.
    """

    folder: Path
    backbones: tuple[str, ...]
    palette: bool
    options: Options
    own_s: float = 0.0
    broad: bool = False

    @cached_property
    def hands(self) -> list[Hand]:
        """The hands, loaded once per process."""
        return load_hands(self.backbones, palette=self.palette, own_s=self.own_s, broad=self.broad)

    def painting(self, hand: str, pair: Pair) -> Path:
        """Return where a painted photo is kept."""
        return self.folder / "paintings" / hand / f"{pair.slug}.png"


def metric_code() -> str:
    """Return 12 hex digits of the metric's source code."""
    folder = Path(shared_model.metrics.__file__).parent
    data = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(data).hexdigest()[:12]


def run_jobs(
    place: Workplace, jobs: Sequence[Job], *, scored: bool = True, workers: int = 1, on_row: Callable[[Row], None]
) -> list[Row]:
    """Do all jobs and return their rows in order, the same for any number of workers.

    Parameters
    ----------
    scored
        Paint only, if false.
    workers
        Processes; each computes with one thread.
    on_row
        Called as rows come, in any order.
    """
    found: dict[int, list[Row]] = {}
    if workers <= 1 or len(jobs) == 1:
        for index, job in enumerate(jobs):
            found[index] = []
            for row in do_job(place, job, scored):
                on_row(row)
                found[index].append(row)
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
            waiting = {pool.submit(_do_whole, place, job, scored): index for index, job in enumerate(jobs)}
            for done in concurrent.futures.as_completed(waiting):
                found[waiting[done]] = done.result()
                for row in done.result():
                    on_row(row)
    return [row for index in range(len(jobs)) for row in found[index]]


def _do_whole(place: Workplace, job: Job, scored: bool) -> list[Row]:
    torch.set_num_threads(1)
    return list(do_job(place, job, scored))


def do_job(place: Workplace, job: Job, scored: bool) -> Iterator[Row]:
    """Paint and score one style's pairs, hand by hand."""
    arts = [content_hash(path) for path in job.arts]
    desk = _Desk(place, job)
    for pair, photo in job.pairs:
        for hand in place.hands:
            path = place.painting(hand.name, pair)
            key = painting_key(hand, place.options, content_hash(photo), *arts)
            if _mark(path) != key:
                painted = stylize(
                    to_tensor(load_picture(photo).rgb),
                    head=desk.head(hand),
                    backbone=hand.backbone,
                    options=place.options,
                )
                save_picture(path, to_uint8(painted), settings={"study": key})
            row: Row = {"content_image": pair.content, "style_image": pair.style, "hand": hand.name}
            yield row | (desk.score(path, photo, key) if scored else {})


def _mark(path: Path) -> object:
    try:
        return read_settings(path).get("study")
    except PictureError:
        return None


class _Desk:
    """What the pairs of one job share, made when first needed."""

    def __init__(self, place: Workplace, job: Job) -> None:
        self.place, self.job = place, job
        self._heads: dict[str, Any] = {}

    def head(self, hand: Hand) -> Any:
        """Return the head for one hand."""
        if hand.name not in self._heads:
            seed = self.place.options.seed
            config = STROKES[hand.strokes]
            plain = fitted_head(self.job.arts, folder=self.place.folder / "heads", seed=seed, config=config)
            self._heads[hand.name] = attuned(plain, hand, self.job.arts, seed=seed)
        return self._heads[hand.name]

    @cached_property
    def analysis(self) -> Painting:
        """The reference painting, analyzed once and kept."""
        reference = self.job.reference
        path = self.place.folder / "analyses" / f"{content_hash(reference)}-{metric_code()}.safetensors"
        if path.is_file():
            return _unpack(safetensors.torch.load(read_bytes(path)))
        made = Painting.of(load_picture(reference).rgb)
        write_atomic(path, safetensors.torch.save(_pack(made)))
        return made

    def score(self, path: Path, photo: Path, key: str) -> Row:
        """Return the score of a painted photo, kept beside it."""
        kept = path.with_suffix(".json")
        mark = f"{key}-{content_hash(self.job.reference)}-{metric_code()}"
        if kept.is_file():
            facts = json.loads(read_bytes(kept))
            if facts["mark"] == mark:
                return dict(facts["score"])
        output, original = load_picture(path).rgb, load_picture(photo).rgb
        before = self._before(photo, output.shape[:2], lambda: photo_distances(original, self.analysis, like=output))
        score = score_pair(output, original, self.analysis, before=before)
        write_atomic(kept, json.dumps({"mark": mark, "score": score}).encode())
        return dict(score)

    def _before(
        self, photo: Path, size: tuple[int, ...], measure: Callable[[], tuple[float, float, float]]
    ) -> tuple[float, float, float]:
        """Return the photo's own distances, kept: they are the same for every hand."""
        name = f"{content_hash(photo)}-{content_hash(self.job.reference)}-{size[1]}x{size[0]}-{metric_code()}.json"
        path = self.place.folder / "analyses" / name
        if not path.is_file():
            write_atomic(path, json.dumps(measure()).encode())
        texture, joint, color = json.loads(read_bytes(path))
        return texture, joint, color


def _pack(made: Painting) -> dict[str, torch.Tensor]:
    tensors = {"image": made.image, "floors": torch.tensor(made.floors, dtype=torch.float64)}
    for name in ("texture", "joint", "color"):
        tensors |= {f"{name}.{index:02d}": block.contiguous() for index, block in enumerate(getattr(made, name))}
    return tensors


def _unpack(tensors: dict[str, torch.Tensor]) -> Painting:
    from shared_model.metrics.filters import luminance

    def blocks(name: str) -> list[torch.Tensor]:
        return [tensors[key] for key in sorted(tensors) if key.startswith(f"{name}.")]

    texture, joint, color = tensors["floors"].tolist()
    image = tensors["image"]
    return Painting(
        image, luminance(image), blocks("texture"), blocks("joint"), blocks("color"), (texture, joint, color)
    )
