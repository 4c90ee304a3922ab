"""Real devices that really train: a run repeats itself to the bit, in one process and over several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch

from client.app import app
from server.config import FederationConfig
from server.state import RoundState
from shared_model.weights import load_backbone
from simulations.engine import EngineConfig, federate
from simulations.populations.settlement import visit

MakeDevices = Callable[[int], list[Path]]


def test_a_run_repeats_itself_to_the_bit_on_every_engine(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    bare = dataclasses.replace(config, unprotected=True, noise_multiplier=0.0, target_epsilon=0.0)
    devices = make_devices(3)

    def once(name: str, engine: EngineConfig) -> RoundState:
        homes = visit(devices, tmp_path / name, budget=math.inf, delta=1e-6)
        folder = tmp_path / f"{name}-federation"
        state, failures = federate(
            app, homes, folder=folder, config=bare, start=lambda: load_backbone(weights), engine=engine
        )
        assert failures == () and [report.accepted for report in state.reports] == [3, 3]
        return state

    first, again = once("first", EngineConfig()), once("again", EngineConfig())
    many = once("many", EngineConfig(kind="processes", workers=2))
    assert torch.equal(first.backbone, again.backbone)
    assert torch.equal(first.backbone, many.backbone)
    assert first.run == many.run


def test_a_device_without_its_pictures_is_named_with_the_cause(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    devices = make_devices(3)
    homes = visit(devices, tmp_path / "visit", budget=math.inf, delta=1e-6)
    (homes[1] / "device.toml").write_text("photos = 7\n")
    patient = dataclasses.replace(
        config, quorum=0.1, rounds=1, unprotected=True, noise_multiplier=0.0, target_epsilon=0.0
    )
    _, failures = federate(app, homes, folder=tmp_path / "run", config=patient, start=lambda: load_backbone(weights))
    assert len(failures) == 1
    assert failures[0].startswith("node 1002: ConfigError:") and "'photos' must be" in failures[0]
