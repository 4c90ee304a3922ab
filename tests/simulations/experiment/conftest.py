"""A tiny experiment: two people with built-in pictures, a backbone of a few hundred numbers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from client.console import Console
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.weights import save_backbone
from simulations.experiment.plan import load_plan
from simulations.experiment.run import run_experiment

TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)

TEXT = """
name = "Tiny"
noise = "seeded for tests"
backbone = "{backbone}"

[population]
devices = 2
photos_each = 2
art_each = 1
test_photos = 1
test_records = 1
records = 2
record_px = 48
pictures_px = 64
held_photos = 1
held_art = 1
[population.head]
canvas_px = 48
levels = 2
atoms = 16
candidates = 64

[federation]
rounds = 2
unprotected = true
local_steps = 1
batch = 1

[evaluation]
records = 1
photos = 1
tastes = 1
paint_px = 64

[callbacks]
ema = 0.5

[[method]]
name = "local"

[[method]]
name = "fedavg"

[[method]]
name = "ditto"

[[method]]
name = "dp-fedavg"
federation = {{ unprotected = false, population = 1_000_000, cohort = 10_000, accept_loud_noise = true }}
"""


def quiet() -> Console:
    """Return a console that nobody hears."""
    return Console(out=io.StringIO(), err=io.StringIO())


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here pulls the plug."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the text of a tiny experiment."""
    home = tmp_path_factory.mktemp("weights")
    save_backbone(home / "start.safetensors", Backbone(TINY))
    return TEXT.format(backbone=home / "start.safetensors")


@pytest.fixture(scope="session")
def tiny_run(tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny experiment that was carried out without any disturbance; only to be read."""
    home = tmp_path_factory.mktemp("tiny")
    (home / "tiny.toml").write_text(tiny_text)
    run_experiment(load_plan(home / "tiny.toml"), home / "run", console=quiet())
    return home / "run"
