"""The study: the same people, the same start, one federation per cell, measured on held-out pictures.

Every run is the real server and the real client app in one process. The nominal fleet's noise is
scaled down to the simulated devices (:class:`server.config.FederationConfig`), so that an average is
as noisy as that fleet's; the simulated devices themselves are not protected to its epsilon.

Each finished run is one file, so a study that was stopped goes on with the runs that are missing; a
run that was stopped goes on after its last round.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.app import app as client_app
from client.console import Console, format_seconds
from server.outputs import backbone_of
from server.rounds import run as run_rounds
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.config import digest, to_dict
from shared_model.errors import FederationError, InputError, Interrupted, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.images import load_tensor
from shared_model.privacy import calibrate, noise_to_signal
from shared_model.split import flatten
from shared_model.stylize import Options
from shared_model.weights import default_backbone, load_backbone
from simulations.evaluation import Judge
from simulations.grid import InProcessGrid
from simulations.populations.deal import deal
from simulations.populations.settlement import settle_all, visit
from simulations.populations.sources import folder_sources
from simulations.price.page import write_page
from simulations.price.settings import Cell, PriceConfig

__all__ = ["MARKER", "run_study"]

MARKER = "price.json"

Facts = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One study in its folder.

    Parameters
    ----------
    folder, config
        Where, and what.
    start
        The backbone that every run starts from.
    judge
        Measures backbones on held-out pictures.
    clock
        CPU seconds.
    """

    folder: Path
    config: PriceConfig
    start: Backbone
    judge: Judge
    clock: Callable[[], float]

    def result(self, name: str, make: Callable[[], Facts]) -> Facts:
        """Return a finished part of the study, or carry it out and save it."""
        path = self.folder / "cells" / f"{name}.json"
        if path.is_file():
            return _read(path)
        began = self.clock()
        facts = {**make(), "cpu_seconds": round(self.clock() - began, 1)}
        _write(path, facts)
        return facts

    def measure(self, backbone: Backbone) -> Facts:
        """Return loss and quality; a score that cannot be had is None."""
        measured = asdict(self.judge.measure(backbone))
        return {key: value if math.isfinite(value) else None for key, value in measured.items()}

    def noise(self, cell: Cell) -> float:
        """Solve the noise multiplier of a cell for all its rounds; 0 without noise."""
        if not math.isfinite(cell.epsilon):
            return 0.0
        federation = self.config.federation_of(cell, noise_multiplier=1.0)
        name = f"noise_epsilon-{cell.epsilon:g}_cohort-{cell.cohort}"
        facts = self.result(
            name,
            lambda: {
                "noise_multiplier": calibrate(
                    target_epsilon=cell.epsilon,
                    delta=federation.effective_delta,
                    sample_rate=cell.cohort / federation.population,
                    steps=federation.rounds,
                )
            },
        )
        return float(facts["noise_multiplier"])

    def train(self, cell: Cell) -> Facts:
        """Run one federation, or what is left of it, and measure what it learned."""
        work, noise = self.folder / "work" / cell.name, self.noise(cell)
        federation = self.config.federation_of(cell, noise_multiplier=noise)
        budget = cell.epsilon * 1.01 if math.isfinite(cell.epsilon) else math.inf
        people = [self.folder / "people" / str(index) for index in range(self.config.devices)]
        homes = visit(people, work / "devices", budget=budget, delta=federation.effective_delta)
        grid = InProcessGrid(client_app, [{"device-dir": str(home.resolve())} for home in homes])
        state = run_rounds(grid, StateStore(work / "federation"), config=federation, start=lambda: self.start)
        if not all(report.released and report.accepted == report.asked for report in state.reports):
            raise FederationError(f"{cell.name}: not every device answered ({'; '.join(grid.failures[:1])})")
        parameters = len(state.backbone)
        ratio = noise_to_signal(noise, cell.cohort, parameters) if cell.cohort else 0.0
        last = state.reports[-1]
        facts = {
            **asdict(cell),
            "epsilon": _finite(cell.epsilon),
            "noise_multiplier": noise,
            "noise_over_clip": ratio,
            "nominal_epsilon": last.epsilon,
            "run_epsilon": last.run_epsilon,
            "update_norms": [report.update_norm for report in state.reports],
            **self.measure(backbone_of(state)),
        }
        shutil.rmtree(work, ignore_errors=True)
        return facts


def run_study(
    config: PriceConfig,
    out: Path | str,
    *,
    photos: Sequence[str],
    art: Sequence[str],
    splits: str = "",
    console: Console,
    clock: Callable[[], float] = time.process_time,
) -> Facts:
    """Carry out a study in the folder ``out``, or what is left of it, and write table and plot.

    Returns
    -------
    dict
        Where everything is, and the rows of the table.

    Raises
    ------
    InputError
        If the folder holds something else, or a study with other settings, pictures or weights.
    Interrupted
        On Ctrl-C; finished runs are saved.
    """
    folder = Path(out)
    start = load_backbone(config.backbone) if config.backbone else default_backbone()
    weights = hashlib.sha256(flatten(start).numpy().tobytes()).hexdigest()[:12]
    dealt = deal(folder_sources(photos, art, splits), config.population)
    identity = {
        "easel": "price",
        "digest": digest(config),
        "weights": weights,
        "pictures": _pictures(dealt.photos, dealt.art, dealt.held_photos, dealt.held_art),
    }
    _claim(folder, {**identity, "config": _plain(to_dict(config))}, identity)
    with StateStore(folder).lock():
        try:
            with console.progress("people and their training pairs") as follow:
                settle_all(folder / "people", dealt, config=config.population, follow=follow)
            judge = _judge(config, dealt.held_photos, dealt.held_art)
            return _run(Study(folder, config, start, judge, clock), console)
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(
                f"stopped; finished runs are saved in {folder}", hint="run the same command again to go on"
            ) from error


def _run(study: Study, console: Console) -> Facts:
    first = study.result("start", lambda: study.measure(study.start))
    console.say(f"at the start: loss {first['loss']:.4f}, quality {_score(first['quality'])}")
    cells, results = study.config.cells(), []
    for number, cell in enumerate(cells, start=1):
        facts = study.result(cell.name, lambda cell=cell: study.train(cell))  # type: ignore[misc]
        results.append(facts)
        console.say(
            f"[{number}/{len(cells)}] epsilon {cell.epsilon:g}, cohort {cell.cohort or 'any'}, repeat {cell.repeat}: "
            f"loss {facts['loss']:.4f}, quality {_score(facts['quality'])} "
            f"({format_seconds(facts['cpu_seconds'])} of CPU)"
        )
    return write_page(study.folder, study.config, first, results)


def _judge(config: PriceConfig, photos: Sequence[Path], art: Sequence[Path]) -> Judge:
    """Prepare held-out pictures: every record another photo, artworks in turn."""
    works = min(len(art), max(1, config.pairs, config.held_records // 4))
    return Judge.of(
        [load_tensor(path, config.pictures_px) for path in photos[: max(config.held_records, config.pairs)]],
        [load_tensor(path, config.pictures_px) for path in art[:works]],
        pairs=config.pairs,
        records=config.held_records,
        record_px=config.record_px,
        options=Options(size_px=config.paint_px, seed=config.seed),
        seed=config.seed,
    )


def _claim(folder: Path, marker: Facts, identity: Facts) -> None:
    """Begin a study in an empty folder, or make sure that the one there is the same."""
    path = folder / MARKER
    if path.is_file():
        found = _read(path)
        different = [key for key, value in identity.items() if found.get(key) != value]
        if different:
            raise InputError(
                f"{folder} holds a study with other {', '.join(different)}",
                hint="repeat its settings, pictures and weights to go on with it, or choose another --out",
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no study", hint="choose another folder with --out")
    _write(path, marker)


def _pictures(*groups: Sequence[Any]) -> str:
    """Identify the dealt files by name and size."""
    words = []
    for group in groups:
        for item in group:
            files = item if isinstance(item, tuple) else (item,)
            words.append([(path.name, path.stat().st_size) for path in files])
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]


def _read(path: Path) -> Facts:
    try:
        return dict(json.loads(read_bytes(path, limit=1 << 24)))
    except ValueError as error:
        raise StorageError(f"{path} is damaged", hint="delete it and run the same command again") from error


def _write(path: Path, facts: Facts) -> None:
    write_atomic(path, (json.dumps(_plain(facts), indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    """Return JSON-ready values: infinity is None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
