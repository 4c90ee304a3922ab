"""The Flower ServerApp: reads the run's configuration and hands over to :mod:`server.rounds`.

Three keys of the run's configuration say where things are and are not part of the federation:
``run-dir`` (absolute; required), ``backbone`` (a weights file; empty for the one easel ships) and
``devices-dir`` (read by simulated devices, ignored here).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from logging import INFO, WARNING, Logger, getLogger
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.budget import Budget
from server.config import FederationConfig
from server.outputs import write_backbone, write_progress
from server.report import RoundReport
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model.errors import ConfigError, MissingError
from shared_model.weights import default_backbone_path, load_backbone

__all__ = ["app", "federate", "resolve_backbone", "split_run_config"]

PLACES = ("backbone", "devices-dir", "run-dir")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run's configuration describes."""
    places, config = split_run_config(context.run_config)
    federate(grid, config, run_dir=Path(places["run-dir"]), backbone=places["backbone"], log=getLogger("flwr"))


def split_run_config(values: Mapping[str, Any]) -> tuple[dict[str, str], FederationConfig]:
    """Take the places out of a run's configuration and read the federation from the rest.

    Raises
    ------
    ConfigError
        If ``run-dir`` is missing or not absolute: the app runs in a folder of Flower's.
    """
    places = {key: str(values.get(key, "")) for key in PLACES}
    if not Path(places["run-dir"]).is_absolute():
        raise ConfigError(
            f"run-dir must be an absolute folder, not {places['run-dir']!r}",
            hint="for example --run-config 'run-dir=\"/home/me/runs/first\"'",
        )
    return places, FederationConfig.from_run_config({key: values[key] for key in values if key not in PLACES})


def federate(grid: Grid, config: FederationConfig, *, run_dir: Path, backbone: str = "", log: Logger) -> RoundState:
    """Run or resume a federation and write its outputs after every round."""

    def on_start(state: RoundState) -> None:
        budget = Budget(config, state.noise_multiplier)
        warning = budget.warning(parameters=len(state.backbone))
        if warning:
            log.log(WARNING, warning)
        if state.round:
            log.log(INFO, f"run {state.run} goes on after round {state.round}/{config.rounds}")
        write_progress(run_dir, state, config)

    def on_round(state: RoundState, report: RoundReport) -> None:
        write_progress(run_dir, state, config)
        spent = "unbounded" if report.epsilon is None else f"{report.epsilon:.3g}"
        dropped = f", dropped {dict(report.reasons)}" if report.reasons else ""
        outcome = "released" if report.released else "skipped, too few updates"
        log.log(
            INFO,
            f"round {report.round}/{config.rounds}: {report.accepted} of {report.asked} accepted{dropped}, "
            f"{outcome}, epsilon {spent}, {report.seconds:.1f} s",
        )

    state = run(
        grid,
        StateStore(run_dir),
        config=config,
        start=lambda: load_backbone(resolve_backbone(backbone)),
        on_start=on_start,
        on_round=on_round,
    )
    facts = Budget(config, state.noise_multiplier).statement(state.reserved, parameters=len(state.backbone))
    path = write_backbone(run_dir, state, config)
    log.log(INFO, f"{facts['says']} Backbone: {path}")
    return state


def resolve_backbone(given: str) -> Path:
    """Return the weights to start from: ``given``, else the ones that easel ships.

    A Flower app bundle holds no weights. There, the installed ``easel`` package (or the checkout
    that it was installed from) is asked where they are.

    Raises
    ------
    MissingError
        If they are nowhere.
    """
    if given:
        return Path(given).expanduser()
    candidates = [default_backbone_path()]
    if importlib.util.find_spec("easel") is not None:
        root = importlib.import_module("easel").root
        candidates.append(root() / "shared_model" / "weights" / default_backbone_path().name)
    for path in candidates:
        if path.is_file():
            return Path(path)
    raise MissingError(
        "the starting backbone was not found",
        hint="install easel beside the server, or name a file: --run-config 'backbone=\"/path/backbone.safetensors\"'",
    )
