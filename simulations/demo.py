"""The main job, end to end: people, rounds of training together, private heads, paintings, one page.

Every phase leaves files and a note in ``run.json``. A run that was killed skips the phases that are
noted, and the federation goes on from its own saved state, with the privacy spent so far.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.console import Console, format_seconds
from shared_model.config import digest, to_dict
from shared_model.errors import Interrupted
from simulations.report import PHASE_NAMES, write_report
from simulations.run_folder import RunFolder, open_run
from simulations.settings import DemoConfig

__all__ = ["run_demo"]

Clock = Callable[[], float]
Facts = dict[str, Any]


def utc_now() -> str:
    """Return the time of day, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def run_demo(
    config: DemoConfig,
    out: Path | str,
    *,
    console: Console,
    fresh: bool = False,
    clock: Clock = time.monotonic,
    now: Callable[[], str] = utc_now,
) -> Facts:
    """Run the demo in the folder ``out``, or take up the one that was interrupted there.

    Returns
    -------
    dict
        Where everything is, and the run's main figures.

    Raises
    ------
    Interrupted
        On Ctrl-C; what was done is saved.
    EaselError
        For anything a person can act on; what was done is saved.
    """
    with open_run(out, digest=digest(config), config=to_dict(config), created=now(), fresh=fresh) as run:
        try:
            return _run(run, config, console=console, clock=clock, now=now)
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(
                f"stopped; everything finished so far is saved in {run.path}",
                hint=f"run the same command again to go on (easel-sim demo --out {run.path} with the same options)",
            ) from error


def _run(run: RunFolder, config: DemoConfig, *, console: Console, clock: Clock, now: Callable[[], str]) -> Facts:
    from simulations.phases import PHASES
    from simulations.workshop import Workshop

    workshop = Workshop(run.path, config, console, clock)
    if run.values["phases"]:
        console.say(f"Going on in {run.path}: {len(run.values['phases'])} of {len(PHASES)} phases are done.")
    for number, (name, work) in enumerate(PHASES.items(), start=1):
        title = f"[{number}/{len(PHASES)}] {PHASE_NAMES[name]}"
        if run.done(name):
            console.say(f"{title}: done before")
            continue
        console.say(title)
        started = clock()
        facts = work(workshop, run)
        run = run.with_phase(name, {"seconds": round(clock() - started, 2), **facts})
        console.say(f"      {facts['said']} ({format_seconds(run.facts(name)['seconds'])})")
    report = write_report(run.path)
    run = run.finish(now())
    console.say(f"Done. Open {report} in a browser.")
    return summary(run)


def summary(run: RunFolder) -> Facts:
    """Return a finished run's main figures, JSON-ready."""
    from simulations.report import read_rounds

    rounds = read_rounds(run.path)
    return {
        "run": str(run.path),
        "report": str(run.path / "report.html"),
        "rounds": int(rounds[-1]["round"]),
        "epsilon": rounds[-1]["epsilon"],
        "loss": [row["loss"] for row in rounds],
        "quality": [row["quality"] if math.isfinite(row["quality"]) else None for row in rounds],
        "paintings": [shot["after"] for shot in run.facts("paintings")["paintings"]],
        "seconds": {name: run.facts(name)["seconds"] for name in run.values["phases"]},
    }
