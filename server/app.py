"""The Flower ServerApp: reads the run's configuration and hands over to :mod:`server.rounds`.

Three keys of the run's configuration say where things are and are not part of the federation:
``run-dir`` (absolute; required), ``backbone`` (a weights file; empty for the one easel ships) and
``devices-dir`` (read by simulated devices, ignored here).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable
from logging import INFO, WARNING, Logger, getLogger
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.budget import Budget
from server.config import FederationConfig
from server.curves import Curves
from server.outputs import privacy_facts, write_backbone, write_progress
from server.places import SERVERAPP, resolve_backbone, split_run_config
from server.report import RoundReport
from server.robust import memory
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model.processes import mark
from shared_model.weights import load_backbone

__all__ = ["app", "federate"]

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run's configuration describes.

    The mark that it leaves while it runs lets a launcher see at once that it was killed, and end it
    when it has outlived its SuperLink.
    """
    places, config = split_run_config(context.run_config)
    run_dir = Path(places["run-dir"])
    with contextlib.ExitStack() as stack:

        def alone() -> None:
            mark(run_dir / SERVERAPP, os.getpid())
            stack.callback((run_dir / SERVERAPP).unlink, missing_ok=True)

        federate(
            grid,
            config,
            run_dir=run_dir,
            backbone=places["backbone"],
            log=getLogger("flwr"),
            alone=alone,
            curves=importlib.util.find_spec("tensorboard") is not None,
        )


def federate(
    grid: Grid,
    config: FederationConfig,
    *,
    run_dir: Path,
    backbone: str = "",
    log: Logger,
    alone: Callable[[], None] = lambda: None,
    curves: bool = False,
) -> RoundState:
    """Run or resume a federation and write its outputs after every round.

    Parameters
    ----------
    grid, config
        See :func:`server.rounds.run`.
    run_dir
        Where state and outputs go.
    backbone
        Weights to start from; empty: those that easel ships.
    log
        Hears about every round.
    alone
        Called once the folder is locked.
    curves
        Draw the rounds for TensorBoard too, which must be installed.
    """
    drawn: list[Curves] = []

    def on_start(state: RoundState) -> None:
        alone()
        budget = Budget(config, state.noise_multiplier)
        warning = budget.warning(parameters=len(state.backbone))
        for text in (warning, memory(config, len(state.backbone))):
            if text:
                log.log(WARNING, text)
        if state.round:
            log.log(INFO, f"run {state.run} goes on after round {state.round}/{config.rounds}")
        write_progress(run_dir, state, config)
        if curves:
            drawn.append(Curves(run_dir, state))

    def on_round(state: RoundState, report: RoundReport) -> None:
        write_progress(run_dir, state, config)
        for curve in drawn:
            curve.add(report)
        log.log(INFO, report.line(rounds=config.rounds))

    try:
        state = run(
            grid,
            StateStore(run_dir),
            config=config,
            start=lambda: load_backbone(resolve_backbone(backbone)),
            on_start=on_start,
            on_round=on_round,
        )
    finally:
        for curve in drawn:
            curve.close()
    facts = privacy_facts(state, config)
    path = write_backbone(run_dir, state, config)
    log.log(INFO, f"{facts['says']} Backbone: {path}")
    return state
