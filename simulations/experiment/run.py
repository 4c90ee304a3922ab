"""Runs an experiment in its folder, from the beginning or from wherever it was stopped or killed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.console import Console, format_seconds
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError, Interrupted
from shared_model.split import flatten
from shared_model.weights import default_backbone, load_backbone
from simulations.engine import KINDS, torch_threads
from simulations.experiment.callbacks import Callback, callbacks_of
from simulations.experiment.folder import MARKER, Facts, Folders, claim, read_facts, read_marker, read_plan, write_facts
from simulations.experiment.measures import Measures
from simulations.experiment.plan import Cell, Plan
from simulations.experiment.settings import ExperimentConfig
from simulations.experiment.sinks import write_tables
from simulations.experiment.trials import TrialRun, trial_name
from simulations.populations import settle

__all__ = ["NOT_PRIVATE", "resume_experiment", "run_experiment"]

NOT_PRIVATE = (
    "NOT PRIVATE: noise is seeded for tests. Whoever knows the seed can take it off again. "
    "Never use this with anybody's pictures."
)


def run_experiment(
    plan: Plan,
    out: Path | str,
    *,
    folders: Folders | None = None,
    console: Console | None = None,
    callbacks: Sequence[Callback] = (),
    clock: Callable[[], float] = time.process_time,
) -> Facts:
    """Carry out an experiment in the folder ``out``, or what is left of it, and write its tables.

    Parameters
    ----------
    plan
        From :func:`simulations.experiment.plan.load_plan`.
    out
        The run's folder; made if missing.
    folders
        Pictures of one's own; absent: those that easel brings along.
    console
        Where progress is told.
    callbacks
        Told of every row, besides those that the settings ask for.
    clock
        CPU seconds.

    Returns
    -------
    dict
        Folder, cells, and the final figures of every trial, JSON-ready.

    Raises
    ------
    InputError
        If the folder holds something else, or a run with other settings, pictures or weights.
    MissingError
        If this computer lacks the device to train on, or a package that is asked for.
    FederationError
        If another process works on the run, or no device could take part in a trial.
    Interrupted
        On Ctrl-C; everything so far is saved.
    """
    folder, told, given = Path(out), console or Console(), folders or Folders()
    first = plan.cells[0].config
    start = load_backbone(first.backbone) if first.backbone else default_backbone()
    alike = all(cell.config.population == first.population for cell in plan.cells)
    if any(cell.config.backbone != first.backbone for cell in plan.cells):
        raise ConfigError("`backbone` cannot be swept", hint="run one experiment for each backbone")
    for cell in plan.cells:  # what is missing is said before a folder is taken
        cell.config.engine.places()
        callbacks_of(cell.config.callbacks, folder)
    claim(folder, plan, folders=given, weights=_weights(start))
    if not first.private:
        told.warn(NOT_PRIVATE)
    with StateStore(folder).lock(), torch_threads(first.engine.threads):
        try:
            cells = [
                _run_cell(
                    cell,
                    folder / "cells" / cell.name if cell.name else folder,
                    start,
                    people_in=folder if alike or not cell.name else folder / "cells" / cell.name,
                    folders=given,
                    console=told,
                    callbacks=callbacks,
                    clock=clock,
                )
                for cell in plan.cells
            ]
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(
                f"stopped; everything so far is saved in {folder}", hint=f"easel-sim resume {folder}"
            ) from error
        write_facts(folder / MARKER, {**read_marker(folder), "finished": True})
    return {"folder": str(folder), "private": first.private, "cells": cells}


def resume_experiment(folder: Path | str, *, console: Console | None = None) -> Facts:
    """Go on with a run, with the settings and pictures that it was begun with.

    Raises
    ------
    MissingError
        If the folder holds no experiment.
    """
    plan, folders = read_plan(folder)
    return run_experiment(plan, folder, folders=folders, console=console)


def _run_cell(
    cell: Cell,
    home: Path,
    start: Backbone,
    *,
    people_in: Path,
    folders: Folders,
    console: Console,
    callbacks: Sequence[Callback],
    clock: Callable[[], float],
) -> Facts:
    """Run every method once with every seed, seed by seed, so that methods can be compared early."""
    config = cell.config
    watchers = [*callbacks_of(config.callbacks, home), *callbacks]
    results: list[Facts] = []
    total = len(config.seeds) * len(config.method)
    for seed in config.seeds:
        missing = [m for m in config.method if not _result(home, trial_name(m, seed)).is_file()]
        measures, people = None, None
        if missing:
            painting = seed == config.seeds[0]
            people = _people(config, people_in, seed, folders=folders, console=console)
            measures = Measures.of(people, config=config.evaluation, painting=painting)
            measures.originals(home / "pictures")
        for method in config.method:
            name = trial_name(method, seed)
            if people is None or measures is None or method not in missing:
                results.append(read_facts(_result(home, name)))
                continue
            trial = TrialRun(
                home / "trials" / name, config, method, seed, people, measures, start, tuple(watchers), clock
            )
            facts = trial.run()
            results.append(facts)
            line = _line(facts, alone=config.engine.kind == KINDS[0])
            console.say(f"[{len(results)}/{total}]{f' {cell.name}' if cell.name else ''} {line}")
            write_tables(home, results, parquet=config.callbacks.parquet, csv=config.callbacks.csv)
    write_tables(home, results, parquet=config.callbacks.parquet, csv=config.callbacks.csv)
    return {"name": cell.name, "changes": dict(cell.changes), "trials": [_final(facts) for facts in results]}


def _people(config: ExperimentConfig, home: Path, seed: int, *, folders: Folders, console: Console):  # type: ignore[no-untyped-def]
    with console.progress(f"people of seed {seed} and their training pairs") as follow:
        return settle(
            config.population_of(seed),
            home / "people" / f"seed-{seed}",
            photos=folders.photos,
            art=folders.art,
            splits=folders.splits,
            follow=follow,
        )


def _result(home: Path, name: str) -> Path:
    return home / "trials" / name / "result.json"


def _final(facts: Facts) -> Facts:
    names = ("method", "seed", "epsilon", "run_epsilon", "bytes_up", "bytes_down", "cpu_seconds", "stopped")
    final = {
        key: value for key, value in facts["final"].items() if key in ("round", "loss", "personal", "worst", "quality")
    }
    return {**{name: facts[name] for name in names}, **final}


def _line(facts: Facts, *, alone: bool) -> str:
    final = facts["final"]
    parts = [f"{facts['method']}, seed {facts['seed']}:"]
    for key, words in (("personal", "personal loss"), ("worst", "worst tenth"), ("loss", "held-out loss")):
        if final.get(key) is not None:
            parts.append(f"{words} {final[key]:.4f},")
    if facts["epsilon"] is not None:
        parts.append(f"epsilon {facts['epsilon']:.3g},")
    return " ".join([*parts, f"{format_seconds(facts['cpu_seconds'])} of CPU{'' if alone else ' without workers'}"])


def _weights(backbone: Backbone) -> str:
    return hashlib.sha256(flatten(backbone).numpy().tobytes()).hexdigest()[:12]
