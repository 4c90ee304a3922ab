"""The figures of runs: every method's losses with intervals.

Every interval is a 95 percent bootstrap (:mod:`simulations.studies.intervals`) that draws devices anew; a
device of another seed is another device, with other pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_model.errors import MissingError
from simulations.experiment.folder import Facts, read_facts, read_plan
from simulations.experiment.plan import Cell
from simulations.experiment.trials import RESULT, trial_name
from simulations.studies.intervals import Estimate, estimate

__all__ = ["Entry", "Group", "read_groups"]


@dataclass(frozen=True)
class Entry:
    """One method with all its seeds.

    Parameters
    ----------
    label
        What pages call it.
    name
        The method's own name.
    home
        Folder of the run or of the cell.
    results
        One per finished seed.
    """

    label: str
    name: str
    home: Path
    results: tuple[Facts, ...]

    def losses(self) -> dict[tuple[int, int], float]:
        """Return every device's final personal loss, by seed and device."""
        return {
            (facts["seed"], device): float(loss)
            for facts in self.results
            for device, loss in enumerate(facts["final"].get("devices", ()))
            if loss is not None
        }

    @property
    def personal(self) -> Estimate | None:
        """Mean personal loss over devices."""
        return _estimate(list(self.losses().values()))

    @property
    def change(self) -> Estimate | None:
        """Every device's final personal loss minus its own before training; negative is better."""
        return _estimate(
            [
                value
                for facts in self.results
                for value in _minus(facts["final"].get("devices", ()), facts["rows"][0].get("devices", ()))
            ]
        )

    @property
    def worst(self) -> Estimate | None:
        """Mean personal loss of the worst tenth of devices, drawn anew as a whole."""
        return _tail(list(self.losses().values()))

    @property
    def held_out(self) -> Estimate | None:
        """Loss of the shared backbone on held-out records, over seeds; ``None`` where nothing is shared."""
        return _estimate(_known(facts["final"].get("loss") for facts in self.results)) if self.federated else None

    @property
    def quality(self) -> Estimate | None:
        """Picture quality of the shared backbone, over seeds."""
        return _estimate(_known(facts["final"].get("quality") for facts in self.results)) if self.federated else None

    @property
    def federated(self) -> bool:
        """Whether something was shared: a server took part, or all records were in one place."""
        return self.name != "local"

    @property
    def own_networks(self) -> bool:
        """Whether devices paint with networks of their own."""
        return any(facts.get("own_networks") for facts in self.results)

    @property
    def epsilon(self) -> float | None:
        """Nominal privacy spent; ``None`` without protection."""
        return _first(self.results, "epsilon") if self.protected else None

    @property
    def run_epsilon(self) -> float | None:
        """What this very run guarantees; ``None`` without protection."""
        return _first(self.results, "run_epsilon") if self.protected else None

    @property
    def protected(self) -> bool:
        """Whether noise was added."""
        return any(facts["protected"] for facts in self.results)

    @property
    def bytes_up(self) -> float:
        """Uploaded bytes of a run, mean over seeds."""
        return float(sum(facts["bytes_up"] for facts in self.results)) / max(1, len(self.results))

    @property
    def seconds(self) -> float:
        """CPU seconds of a trial, mean over seeds."""
        return float(sum(facts["cpu_seconds"] for facts in self.results)) / max(1, len(self.results))

    def curve(self, key: str) -> list[tuple[int, Estimate]]:
        """Return a measure after each evaluated round; a trial that was stopped early stays where it stopped.

        Parameters
        ----------
        key
            ``"change"``: every device's personal loss minus its own before training, over devices; or a key
            of a row, over seeds.
        """
        rounds: dict[int, list[float]] = {}
        seen = sorted({row["round"] for facts in self.results for row in facts["rows"]})
        for facts in self.results:
            first, last = facts["rows"][0].get("devices", ()), facts["rows"][-1]
            after = [{**last, "round": number} for number in seen if number > last["round"] and facts.get("stopped")]
            for row in (*facts["rows"], *after):
                values = _minus(row.get("devices", ()), first) if key == "change" else _known([row.get(key)])
                rounds.setdefault(row["round"], []).extend(values)
        return [(number, made) for number, values in sorted(rounds.items()) if (made := _estimate(values)) is not None]


@dataclass(frozen=True)
class Group:
    """Methods that were trained on the same people: one run, or one cell of a sweep.

    Parameters
    ----------
    title
        Of the run and the cell.
    entries
        In the order of the file; those that have finished at least one seed.
    cell
        Its settings.
    """

    title: str
    entries: tuple[Entry, ...]
    cell: Cell
    home: Path

    @property
    def start(self) -> Estimate | None:
        """Mean personal loss before training."""
        if not self.entries:
            return None
        return _estimate(_known(v for facts in self.entries[0].results for v in facts["rows"][0].get("devices", ())))


def read_groups(folders: Sequence[Path | str]) -> list[Group]:
    """Read the results of runs, finished or not.

    Raises
    ------
    MissingError
        If a folder holds no experiment, or none has a finished trial.
    StorageError
        If a file of a run is damaged.
    """
    groups: list[Group] = []
    plans = [read_plan(folder, same=False)[0] for folder in folders]
    names = [plan.cells[0].config.name for plan in plans]
    for folder, plan, name in zip(folders, plans, names, strict=True):
        run = "" if len(folders) == 1 else name if names.count(name) == 1 else Path(folder).name
        for cell in plan.cells:
            home = Path(folder) / "cells" / cell.name if cell.name else Path(folder)
            title = _title(run, cell) or name
            entries = tuple(entry for method in cell.config.method if (entry := _entry(home, cell, method)).results)
            groups.append(Group(title, entries, cell, home))
    if not any(group.entries for group in groups):
        raise MissingError(f"{folders[0]}: no trial is finished yet", hint=f"easel-sim resume {folders[0]}")
    return groups


def _title(run: str, cell: Cell) -> str:
    parts = [run] if run else []
    return ", ".join([*parts, *(f"{key.rsplit('.', 1)[-1]} = {value}" for key, value in cell.changes.items())])


def _entry(home: Path, cell: Cell, method: Any) -> Entry:
    paths = [home / "trials" / trial_name(method, seed) / RESULT for seed in cell.config.seeds]
    return Entry(method.title, method.name, home, tuple(read_facts(path) for path in paths if path.is_file()))


def _estimate(values: Sequence[float]) -> Estimate | None:
    return estimate(values) if values else None


def _tail(values: Sequence[float]) -> Estimate | None:
    """Bootstrap the mean of the largest tenth (at least one value)."""
    if not values:
        return None
    import numpy as np

    array = np.sort(np.asarray(values))
    count = max(1, round(len(array) / 10))
    rng = np.random.default_rng(0)
    drawn = np.sort(array[rng.integers(0, len(array), size=(2000, len(array)))], axis=1)[:, -count:].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    mean = float(array[-count:].mean())
    return Estimate(mean, float(low), float(high), float(low), float(high), len(array), int((array > 0).sum()))


def _minus(values: Sequence[float | None], first: Sequence[float | None]) -> list[float]:
    """Return the differences of those that are known in both; nothing if one was not measured."""
    pairs = zip(values, first, strict=True) if values and first else ()
    return [value - before for value, before in pairs if value is not None and before is not None]


def _known(values: Any) -> list[float]:
    return [float(value) for value in values if value is not None]


def _first(results: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return next((facts[key] for facts in results if facts.get(key) is not None), None)
