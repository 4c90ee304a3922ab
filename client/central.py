"""A central training run: pictures in, a run folder with checkpoints, curves and weights out.

A run folder holds ``config.json`` (what the run is), ``checkpoint.safetensors`` (where it stands),
``backbone.safetensors`` (its averaged weights), ``epochs.csv`` and ``samples/`` (what it paints).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shared_model.config import TrainConfig, parse, to_dict
from shared_model.errors import CompatibilityError, InputError, Interrupted, MissingError
from shared_model.files import read_bytes, write_atomic
from shared_model.images import find_pictures, load_tensor, save_picture, to_uint8
from shared_model.training import Trainer, validation_records
from shared_model.weights import save_backbone

if TYPE_CHECKING:
    from shared_model.backbone import Backbone
    from shared_model.records import Batch

__all__ = ["Epoch", "Pictures", "Run", "split_pictures"]

_KEEP_PX = 640  # pictures are kept in memory at most this large: records need the 512 px canvas


@dataclass(frozen=True)
class Pictures:
    """Files of one kind (photos or paintings), split by a hash of their content."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    test: tuple[Path, ...]


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought.

    Parameters
    ----------
    step
        Steps done in all.
    train, validation
        Mean loss terms; ``total`` is their sum.
    seconds
        Wall time of the epoch.
    """

    step: int
    train: dict[str, float]
    validation: dict[str, float]
    seconds: float


def split_pictures(folder: str | Path, config: TrainConfig) -> Pictures:
    """Split the pictures of a folder into training, validation and test.

    A file's place follows from its bytes alone, so it stays where it is when others come or go, and
    two copies of one picture never fall on both sides. Each held-out part gets at least one picture
    when there are four or more.
    """
    files = find_pictures([folder])
    ranked = sorted(files, key=lambda path: hashlib.sha256(read_bytes(path)).hexdigest())
    if len(ranked) < 4:
        return Pictures(tuple(ranked), tuple(ranked[:1]), tuple(ranked[:1]))
    validation = max(1, round(config.validation_share * len(ranked)))
    test = max(1, round(config.test_share * len(ranked)))
    return Pictures(
        tuple(ranked[validation + test :]), tuple(ranked[:validation]), tuple(ranked[validation : validation + test])
    )


def load_all(paths: Sequence[Path], progress: Callable[[float, str], None]) -> list[Tensor]:
    """Read pictures, the large ones reduced."""
    loaded = []
    for index, path in enumerate(paths):
        picture = load_tensor(path)
        loaded.append(load_tensor(path, _KEEP_PX) if min(picture.shape[-2:]) > _KEEP_PX else picture)
        progress((index + 1) / len(paths), "")
    return loaded


class Run:
    """One central training run in one folder; made new or resumed."""

    def __init__(self, folder: Path, config: TrainConfig, photos: str, art: str) -> None:
        self.folder, self.config, self.photos, self.art = folder, config, photos, art

    @staticmethod
    def create(folder: Path, config: TrainConfig, *, photos: str, art: str) -> Run:
        """Begin a run in an empty or new folder.

        Raises
        ------
        InputError
            If the folder holds something already, or there are no photos or paintings.
        """
        if folder.exists() and any(folder.iterdir()):
            raise InputError(
                f"{folder} is not empty", hint=f"continue it with --resume {folder}, or name another folder with -o"
            )
        for pictures in (photos, art):  # before anything is written
            find_pictures([pictures])
        run = Run(folder, config, str(Path(photos).resolve()), str(Path(art).resolve()))
        facts = {"photos": run.photos, "art": run.art, "config": to_dict(config)}
        write_atomic(folder / "config.json", json.dumps(facts, indent=2).encode())
        return run

    @staticmethod
    def open(folder: Path) -> Run:
        """Open a run to resume it.

        Raises
        ------
        MissingError
            If the folder is no run.
        """
        path = folder / "config.json"
        if not path.is_file():
            raise MissingError(f"{folder} is not a training run", hint="start one with --photos DIR --art DIR")
        try:
            facts = json.loads(read_bytes(path, limit=1 << 20))
            config = parse(facts["config"], TrainConfig, source=str(path))
            return Run(folder, config, facts["photos"], facts["art"])
        except (ValueError, KeyError, TypeError) as error:
            raise CompatibilityError(f"{path} is damaged", hint="start the run anew in another folder") from error

    def train(
        self,
        *,
        device: str,
        start: Backbone | None,
        progress: Callable[[float, str], None],
        on_epoch: Callable[[Epoch], None],
        on_samples: Callable[[int, Tensor], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> Epoch:
        """Train to the end and return the held-out test figures.

        Parameters
        ----------
        device
            Where the networks run.
        start
            Weights to begin from when the run is new.
        progress
            Called with the fraction done and a few words after every step.
        on_epoch, on_samples
            Called after every epoch with its figures, and with the step and a picture ``(3, H, W)``.
        clock
            Seconds, monotonic.

        Raises
        ------
        Interrupted
            On Ctrl-C, after a checkpoint was written.
        """
        photos, art = split_pictures(self.photos, self.config), split_pictures(self.art, self.config)
        trainer = Trainer(
            self.config,
            photos=load_all(photos.train, lambda f, _: progress(0.0, "reading photos")),
            paintings=load_all(art.train, lambda f, _: progress(0.0, "reading paintings")),
            device=device,
            start=start,
        )
        quiet: Callable[[float, str], None] = lambda fraction, text: None  # noqa: E731
        held_out = validation_records(load_all(photos.validation, quiet), load_all(art.validation, quiet), self.config)
        checkpoint = self.folder / "checkpoint.safetensors"
        if checkpoint.is_file():
            trainer.restore(checkpoint)
        try:
            self._loop(trainer, held_out, progress, on_epoch, on_samples, clock)
        except KeyboardInterrupt:
            self._store(trainer)
            raise Interrupted(
                f"stopped at step {trainer.step_count} of {self.config.steps}; everything so far is saved",
                hint=f"go on with `easel train --resume {self.folder}`",
            ) from None
        began = clock()
        test = validation_records(load_all(photos.test, quiet), load_all(art.test, quiet), self.config)
        figures, _ = trainer.validate(test)
        return Epoch(trainer.step_count, {}, figures, clock() - began)

    def _loop(
        self,
        trainer: Trainer,
        held_out: Batch,
        progress: Callable[[float, str], None],
        on_epoch: Callable[[Epoch], None],
        on_samples: Callable[[int, Tensor], None],
        clock: Callable[[], float],
    ) -> None:
        config = self.config
        for index in range(config.first_visits):
            progress(trainer.step_count / config.steps, f"drafting records {index + 1}/{config.first_visits}")
            trainer.replenish(1)
        while trainer.step_count < config.steps:
            began, sums, count = clock(), dict[str, float](), 0
            while count < config.epoch_steps and trainer.step_count < config.steps:
                terms = trainer.step()
                count += 1
                sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
                progress(
                    trainer.step_count / config.steps,
                    f"step {trainer.step_count}  G {terms['total']:.3f}  D {terms.get('critic', 0.0):.3f}",
                )
            figures, outputs = trainer.validate(held_out)
            self._store(trainer)
            grid = _sheet(held_out, outputs)
            save_picture(self.folder / "samples" / f"{trainer.step_count:06d}.jpg", to_uint8(grid[None]))
            epoch = Epoch(
                trainer.step_count, {name: value / count for name, value in sums.items()}, figures, clock() - began
            )
            self._log(epoch)
            on_epoch(epoch)
            on_samples(trainer.step_count, grid)
            if trainer.step_count < config.steps:
                trainer.replenish(config.visits)

    def _store(self, trainer: Trainer) -> None:
        trainer.save(self.folder / "checkpoint.safetensors")
        manifest = {"trained": "centrally", "steps": str(trainer.step_count)}
        save_backbone(self.folder / "backbone.safetensors", trainer.averaged_backbone(), manifest=manifest)

    def _log(self, epoch: Epoch) -> None:
        """Append the epoch to ``epochs.csv`` (the whole file is rewritten, atomically)."""
        path = self.folder / "epochs.csv"
        row = {"step": epoch.step, "seconds": round(epoch.seconds, 1)}
        figures = {f"train_{k}": round(v, 5) for k, v in sorted(epoch.train.items())}
        figures |= {f"validation_{k}": round(v, 5) for k, v in sorted(epoch.validation.items())}
        rows = list(csv.DictReader(io.StringIO(path.read_text()))) if path.is_file() else []
        rows = [old for old in rows if int(old["step"]) < epoch.step]
        text = io.StringIO()
        writer = csv.DictWriter(text, [*row, *figures], extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*rows, row | figures])
        write_atomic(path, text.getvalue().encode())


def _sheet(records: Batch, outputs: Tensor) -> Tensor:
    """Rows of (photo, draft, output, reference), as one ``(3, H, W)`` picture."""
    columns = (records.photo, records.draft, outputs, records.reference)
    rows = [torch.cat([column[i] for column in columns], dim=2) for i in range(min(8, len(records)))]
    return torch.cat(rows, dim=1).clamp(0, 1)
