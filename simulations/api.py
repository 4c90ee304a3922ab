"""Experiments in a few lines of Python; the same engine, files and pages as ``easel-sim run``.

>>> from simulations import Experiment, Federation, Method, Population, run
>>> experiment = Experiment(
...     method=(Method("local"), Method("fedavg"), Method("ditto", options={"lam": 1.0})),
...     population=Population(kind="natural", devices=4),
...     federation=Federation(rounds=3, unprotected=True),
... )
>>> result = run(experiment, "runs/mine")
>>> print(result.table())
>>> print(result.gain("fedavg", over="local"))
>>> result.report()

Every class is a frozen dataclass whose parameters are those of the TOML file (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from client.console import Console
from server.config import FederationConfig as Federation
from shared_model.errors import InputError
from shared_model.parsing import nearest
from simulations.engine import EngineConfig as Engine
from simulations.experiment import words
from simulations.experiment.callbacks import Callback
from simulations.experiment.comparison import compare_runs, figures
from simulations.experiment.contrasts import Contrast, contrast
from simulations.experiment.folder import Facts, Folders, read_marker
from simulations.experiment.page import write_experiment_report
from simulations.experiment.plan import Cell, Plan, check_methods
from simulations.experiment.run import run_experiment
from simulations.experiment.settings import CallbackConfig as Callbacks
from simulations.experiment.settings import EvaluationConfig as Evaluation
from simulations.experiment.settings import ExperimentConfig as Experiment
from simulations.experiment.settings import MethodConfig as Method
from simulations.experiment.summary import Entry, read_groups
from simulations.experiment.toml_text import to_toml
from simulations.populations import PopulationConfig as Population

__all__ = [
    "Callbacks",
    "Engine",
    "Evaluation",
    "Experiment",
    "Federation",
    "Folders",
    "Method",
    "Population",
    "Run",
    "compare",
    "load",
    "run",
]


@dataclass(frozen=True)
class Run:
    """An experiment that was carried out, in its folder.

    Parameters
    ----------
    folder
        Where it is.
    """

    folder: Path

    def figures(self) -> list[Facts]:
        """Return every method's figures: means with 95 % bootstrap intervals, epsilon, bytes, CPU seconds."""
        return [row for group in read_groups([self.folder]) for row in figures(group)]

    def table(self) -> str:
        """Return the figures as text, a line per method."""
        header = ("method", "personal loss", "worst tenth", "epsilon", "uploaded")
        rows = [words.row(entry) for entry in self._entries()]
        text = StringIO()
        Console(out=text).table(
            [(row["label"], row["personal"], row["worst"], row["epsilon"], row["bytes"]) for row in rows], header=header
        )
        return text.getvalue().rstrip()

    def losses(self, method: str) -> dict[tuple[int, int], float]:
        """Return each device's final loss with its own network on its own test, by seed and device.

        Raises
        ------
        InputError
            If there is no such method in the run.
        """
        return self._entry(method).losses()

    def gain(self, method: str, *, over: str) -> Contrast:
        """Return how much lower a method's personal loss is than another's, on the same devices.

        Raises
        ------
        InputError
            If there is no such method in the run, or no device measured both.
        """
        found = contrast(self._entry(method), self._entry(over))
        if found is None:
            raise InputError(f"no device has measured both {method!r} and {over!r}")
        return found

    def report(self) -> Path:
        """Make the run's page, ``report.html``, and return its path."""
        return write_experiment_report(self.folder)

    def _entries(self) -> list[Entry]:
        return [entry for group in read_groups([self.folder]) for entry in group.entries]

    def _entry(self, method: str) -> Entry:
        entries = self._entries()
        for entry in entries:
            if entry.label == method:
                return entry
        raise InputError(f"the run has no method {method!r}", hint=nearest(method, [entry.label for entry in entries]))


def run(
    experiment: Experiment,
    out: Path | str,
    *,
    folders: Folders | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Run:
    """Carry out an experiment in a folder, or go on with what is left of it.

    Parameters
    ----------
    experiment
        What to do.
    out
        Folder of the run; ``easel-sim resume``, ``report`` and ``compare`` take it, too.
    folders
        Pictures of your own; absent: those that easel brings along.
    callbacks
        Told of every round (:class:`simulations.experiment.callbacks.Callback`).
    quiet
        Print nothing but warnings.

    Raises
    ------
    ConfigError
        If the settings do not fit together.
    InputError
        If the folder holds something else.
    """
    check_methods(experiment)
    plan = Plan(to_toml(experiment), (Cell("", {}, experiment),))
    console = Console(out=StringIO()) if quiet else Console()
    run_experiment(plan, out, folders=folders, console=console, callbacks=callbacks)
    return Run(Path(out))


def load(folder: Path | str) -> Run:
    """Return a run that is there already, finished or not.

    Raises
    ------
    MissingError
        If the folder holds no experiment.
    """
    read_marker(folder)
    return Run(Path(folder))


def compare(runs: Sequence[Run], out: Path | str) -> Path:
    """Put runs side by side on one page, ``compare.html``, and return its path.

    Raises
    ------
    MissingError
        If none has a finished trial.
    """
    return Path(compare_runs([item.folder for item in runs], out)["page"])
