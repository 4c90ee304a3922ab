"""What a federation leaves in its folder: rounds.csv, privacy.json and the final backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from server.budget import Budget
from server.config import FederationConfig
from server.report import to_csv
from server.state import RoundState
from shared_model.backbone import Backbone
from shared_model.files import write_atomic
from shared_model.split import unflatten
from shared_model.weights import save_backbone

__all__ = ["BACKBONE", "PRIVACY", "ROUNDS", "backbone_of", "privacy_facts", "write_backbone", "write_progress"]

ROUNDS = "rounds.csv"
PRIVACY = "privacy.json"
BACKBONE = "backbone.safetensors"


def backbone_of(state: RoundState) -> Backbone:
    """Return the backbone of a state, in evaluation mode."""
    backbone = Backbone(state.model)
    unflatten(backbone, state.backbone)
    return backbone.eval()


def privacy_facts(state: RoundState, config: FederationConfig) -> dict[str, Any]:
    """Return :meth:`server.budget.Budget.statement` of a state, JSON-ready."""
    budget = Budget(config, state.noise_multiplier)
    clips = [report.clip for report in state.reports]
    return budget.statement(state.charged, parameters=len(state.backbone), clips=clips)


def write_progress(folder: Path | str, state: RoundState, config: FederationConfig) -> None:
    """Write rounds.csv and privacy.json anew from the state; after a resume they are complete."""
    target = Path(folder)
    write_atomic(target / ROUNDS, to_csv(state.reports).encode())
    facts = privacy_facts(state, config)
    facts |= {"run": state.run, "rounds_done": state.round}
    write_atomic(target / PRIVACY, (json.dumps(facts, indent=2) + "\n").encode())


def write_backbone(folder: Path | str, state: RoundState, config: FederationConfig) -> Path:
    """Write the backbone with where it came from and what it cost in its manifest."""
    facts = privacy_facts(state, config)
    manifest = {
        "run": state.run,
        "round": str(state.round),
        "unit": config.unit,
        "epsilon": "unbounded" if facts["epsilon"] is None else f"{facts['epsilon']:.6g}",
        "run_epsilon": "unbounded" if facts["run_epsilon"] is None else f"{facts['run_epsilon']:.6g}",
        "delta": f"{config.effective_delta:.6g}",
        "simulated": str(config.simulated).lower(),
        "privacy": facts["says"],
    }
    return save_backbone(Path(folder) / BACKBONE, backbone_of(state), manifest=manifest)
