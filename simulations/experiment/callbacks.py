"""What happens after each round beside the measuring: early stop, averages, profiles, and where rows go.

A callback is told of a trial's start, of each row, and of its end. After a kill it is told of the rows
again that it may have missed, so what it writes must not depend on how often it is told.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import json
import math
import os
import pstats
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.errors import MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.split import flatten, unflatten
from simulations.experiment.rows import Row
from simulations.experiment.settings import CallbackConfig
from simulations.experiment.sinks import require_parquet

__all__ = ["Average", "Callback", "StopTraining", "callbacks_of", "profiled", "should_stop"]


class StopTraining(Exception):
    """A trial has learned all that it will: ends its training, not the experiment."""


class Callback(Protocol):
    """Watches trials."""

    def on_start(self, trial: str, *, rows: Sequence[Row]) -> None:
        """Tell of a trial that starts, or goes on after ``rows``."""

    def on_round(self, trial: str, row: Row) -> None:
        """Tell of a new row; raise `StopTraining` to end the trial there."""

    def on_end(self, trial: str) -> None:
        """Tell that a trial's training has ended."""


def should_stop(rows: Sequence[Row], config: CallbackConfig) -> bool:
    """Say whether the last ``stop_after`` evaluations lowered the loss by no more than the margin.

    A pure function of the rows: a trial that was killed stops where it would have stopped.
    """
    losses = [value for row in rows if (value := _watched(row)) is not None]
    wait = config.stop_after
    if not wait or len(losses) <= wait:
        return False
    return min(losses[-wait:]) > min(losses[:-wait]) - config.stop_margin


def _watched(row: Row) -> float | None:
    for name in ("personal", "loss"):
        value = row.get(name)
        if isinstance(value, float) and math.isfinite(value):
            return value
    return None


class Average:
    """An exponential moving average of the shared backbone, kept in one file.

    Parameters
    ----------
    path
        The file; it also says after which round, so that no round counts twice.
    decay
        Share of the old average that is kept in a round.
    """

    def __init__(self, path: Path, *, decay: float) -> None:
        self._path, self._decay = path, decay

    def update(self, round: int, backbone: Backbone) -> Backbone:
        """Fold in the backbone after ``round`` and return the average; a round that is in it stays so."""
        vector = flatten(backbone)
        seen, old = self._load()
        if old is None:
            seen, old = 0, vector
        if round > seen:
            old = self._decay * old + (1.0 - self._decay) * vector
            write_atomic(self._path, save_tensors({"average": old}, metadata={"round": str(round)}))
        averaged = Backbone(backbone.config)
        unflatten(averaged, old)
        return averaged

    def _load(self) -> tuple[int, Tensor | None]:
        if not self._path.exists():
            return 0, None
        data = read_bytes(self._path)
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            return int(header["__metadata__"]["round"]), load_tensors(data)["average"]
        except (ValueError, KeyError) as error:
            raise StorageError(f"{self._path} is damaged", hint="delete the trial's folder and resume") from error


@contextlib.contextmanager
def profiled(kind: str, path: Path) -> Iterator[None]:
    """Write where the time went to ``path``, a text file: one line a function, slowest first.

    Parameters
    ----------
    kind
        ``"none"``, ``"cprofile"`` (Python functions) or ``"torch"`` (operators).
    """
    if kind == "none":
        yield
    elif kind == "cprofile":
        profile = cProfile.Profile()
        try:
            with profile:
                yield
        finally:  # also where a trial is stopped early
            stream = io.StringIO()
            pstats.Stats(profile, stream=stream).sort_stats("tottime").print_stats(40)
            write_atomic(path, stream.getvalue().encode())
    else:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells stderr when it starts and stops
        profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        try:
            with profiler:
                yield
        finally:
            table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
            write_atomic(path, table.encode())


def callbacks_of(config: CallbackConfig, folder: Path) -> list[Callback]:
    """Return the writers that an experiment asks for.

    Raises
    ------
    MissingError
        If one needs a package that is not installed.
    """
    made: list[Callback] = []
    if config.parquet:
        require_parquet()
    if config.tensorboard:
        made.append(TensorBoard(folder / "tensorboard"))
    if config.wandb:
        made.append(WeightsAndBiases(folder))
    return made


class TensorBoard:
    """Writes numbers of rows as scalars, a subfolder per trial."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingError("tensorboard is not installed", hint="pip install tensorboard") from error
        self._make, self._folder = SummaryWriter, folder
        self._writers: dict[str, Any] = {}

    def on_start(self, trial: str, *, rows: Sequence[Row]) -> None:
        """Open the trial's file and write all rows so far: what an earlier file holds falls away for readers."""
        self._writers[trial] = self._make(str(self._folder / trial), purge_step=0)
        for row in rows:
            self.on_round(trial, row)

    def on_round(self, trial: str, row: Row) -> None:
        """Write a row."""
        for name, value in _numbers(row).items():
            self._writers[trial].add_scalar(name, value, row["round"])
        self._writers[trial].flush()

    def on_end(self, trial: str) -> None:
        """Close the trial's file."""
        self._writers.pop(trial).close()


class WeightsAndBiases:
    """Writes offline runs of Weights & Biases; nothing leaves this computer unless somebody syncs them."""

    def __init__(self, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingError(
                "wandb is asked for in [callbacks] and not installed", hint="pip install wandb, or set wandb = false"
            ) from error
        self._wandb, self._folder = wandb, folder
        self._runs: dict[str, Any] = {}

    def on_start(self, trial: str, *, rows: Sequence[Row]) -> None:
        """Begin an offline run, with the rounds of an earlier one where a trial goes on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._runs[trial] = self._wandb.init(
            project="easel",
            name=trial,
            dir=str(self._folder),
            mode="offline",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, disable_code=True, disable_git=True),
        )
        for row in rows:
            self.on_round(trial, row)

    def on_round(self, trial: str, row: Row) -> None:
        """Write a row."""
        self._runs[trial].log(_numbers(row), step=row["round"], commit=True)

    def on_end(self, trial: str) -> None:
        """Finish the offline run."""
        self._runs.pop(trial).finish()


def _numbers(row: Row) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "round" and math.isfinite(value)
    }
