"""The demo's training: the real server and the real client app, in one process, measured as it goes.

Guarantees
----------
- A run that was killed goes on after its last finished round; what was spent stays spent.
- Loss and quality come from held-out pictures; no device reports either.
- Both privacy figures are written down together: the nominal fleet's and that of the devices
  simulated here.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.app import app as client_app
from client.console import format_bytes, format_seconds
from client.ledger import Ledger
from server.budget import Budget
from server.outputs import backbone_of, privacy_facts, write_backbone
from server.report import RoundReport
from server.rounds import run as run_rounds
from server.state import RoundState, StateStore
from shared_model.errors import FederationError
from shared_model.files import write_atomic
from simulations.evaluation import Measured
from simulations.grid import InProcessGrid
from simulations.report import read_rounds
from simulations.report_text import figure
from simulations.run_folder import RunFolder
from simulations.workshop import Workshop

__all__ = ["federate", "measure_start"]

Facts = dict[str, Any]
COLUMNS = (
    "round", "loss", "quality", "content", "style", "epsilon", "accepted", "asked", "bytes_down", "bytes_up", "seconds"
)  # fmt: skip


def measure_start(workshop: Workshop, run: RunFolder) -> Facts:
    """Measure the backbone that easel ships, before anyone trains."""
    started = workshop.clock()
    judge = workshop.judge(run)
    measured = judge.measure(workshop.first_backbone())
    row = _row(0, measured, seconds=workshop.clock() - started)
    _write_rounds(run.path, [row])
    said = f"held-out loss {figure(measured.loss)}, picture quality {figure(measured.quality)}"
    return {"said": said, "pairs": len(judge.pairs)}


def federate(workshop: Workshop, run: RunFolder) -> Facts:
    """Train together: the real server and the real client app, in one process."""
    config, people = workshop.config.federation, workshop.population(run).people
    rows: list[Mapping[str, float]] = list(read_rounds(run.path))
    judge = workshop.judge(run)
    grid = InProcessGrid(
        client_app, [{"device-dir": str(workshop.device_folder(person.id).resolve())} for person in people]
    )

    def catch_up(state: RoundState) -> None:
        """Measure the backbone unless it was, and write down what a person may want to see."""
        for report in state.reports[len(rows) - 1 :]:
            measured = judge.measure(backbone_of(state)) if report is state.reports[-1] else None
            rows.append(_row(report.round, measured, report=report, seconds=report.seconds))
        _write_rounds(run.path, rows)
        _write_privacy(workshop, state)

    def on_round(state: RoundState, report: RoundReport) -> None:
        catch_up(state)
        if not report.released:
            causes = "; ".join(grid.failures[:1]) or ", ".join(report.reasons)
            raise FederationError(
                f"round {report.round} was skipped: {report.accepted} of {report.asked} devices answered ({causes})",
                hint="run the same command again to go on with the next round",
            )
        row = rows[-1]
        workshop.console.say(
            f"      round {report.round}/{config.rounds}: {report.accepted} of {report.asked} devices answered, "
            f"{format_bytes(report.bytes_up)} came up; loss {figure(row['loss'])}, quality {figure(row['quality'])}, "
            f"epsilon {row['epsilon']:.2f} ({format_seconds(report.seconds)})"
        )

    def on_start(state: RoundState) -> None:
        if state.round:
            workshop.console.say(f"      going on after round {state.round}; the privacy spent so far stays spent")
        catch_up(state)

    state = run_rounds(
        grid,
        StateStore(workshop.federation_folder),
        config=config,
        start=workshop.first_backbone,
        on_start=on_start,
        on_round=on_round,
    )
    write_backbone(workshop.federation_folder, state, config)
    spent = _finite(state.reports[-1].epsilon)
    return {
        "said": f"{state.round} rounds; epsilon {spent:.2f} for the nominal fleet of {config.population:,} devices",
        "rounds": state.round,
        "parameters": len(state.backbone),
        "upload": config.upload,
        "devices": [_traffic(workshop, person.id, state) for person in people],
    }


def _row(number: int, measured: Measured | None, *, seconds: float, report: RoundReport | None = None) -> Facts:
    shown = measured or Measured(math.nan, math.nan, math.nan, math.nan)
    return {
        "round": number,
        "loss": shown.loss,
        "quality": shown.quality,
        "content": shown.content,
        "style": shown.style,
        "epsilon": 0.0 if report is None else _finite(report.epsilon),
        "accepted": 0 if report is None else report.accepted,
        "asked": 0 if report is None else report.asked,
        "bytes_down": 0 if report is None else report.bytes_down,
        "bytes_up": 0 if report is None else report.bytes_up,
        "seconds": round(seconds, 2),
    }


def _finite(epsilon: float | None) -> float:
    return math.inf if epsilon is None else epsilon


def _write_rounds(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
    write_atomic(folder / "rounds.csv", stream.getvalue().encode())


def _write_privacy(workshop: Workshop, state: RoundState) -> None:
    """Write both figures: the nominal fleet's and that of the devices simulated here."""
    config = workshop.config.federation
    budget = Budget(config, state.noise_multiplier)
    facts = privacy_facts(state, config)
    facts["nominal"] = {
        "unit": config.unit,
        "population": config.population,
        "cohort": config.cohort,
        "rounds": config.rounds,
        "noise_multiplier": state.noise_multiplier,
        "delta": config.effective_delta,
        "target_epsilon": config.target_epsilon,
        "epsilon": facts["epsilon"],
        "epsilon_per_round": [report.epsilon for report in state.reports],
    }
    facts["simulated"] = {
        "devices": config.simulated_population,
        "cohort": config.simulated_cohort,
        "noise_multiplier": budget.run_mechanism.noise_multiplier,
        "epsilon": facts["run_epsilon"],
        "protected": False,
    }
    write_atomic(workshop.folder / "privacy.json", (json.dumps(facts, indent=1) + "\n").encode())


def _traffic(workshop: Workshop, person: int, state: RoundState) -> Facts:
    """Count what one device keeps, and what its own ledger says it sent."""
    folder = workshop.device_folder(person)
    entries = [entry for entry in Ledger.open(folder / "ledger.json").entries() if entry.bytes_sent]
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    pictures = sum(size for path, size in sizes.items() if path.parent.name in ("photos", "art"))
    received = state.reports[-1].bytes_down // max(1, state.reports[-1].asked)
    return {
        "id": person,
        "pictures": pictures,
        "records": sum(sizes.values()) - pictures,
        "received": received * len(entries),
        "sent": sum(entry.bytes_sent for entry in entries),
        "messages": len(entries),
    }
