"""The interface in Python: the example that ships, executed on tiny data."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import simulations
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.errors import ConfigError, InputError, MissingError
from shared_model.weights import save_backbone
from simulations import Experiment, Federation, Method, api, compare, load

ROOT = Path(__file__).parents[2]
TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)
SMALL: dict[str, Any] = {
    "devices": 2, "photos_each": 2, "art_each": 1, "test_photos": 1, "test_records": 1, "records": 2, "record_px": 48,
    "pictures_px": 64, "held_photos": 1, "held_art": 1,
    "head": HeadConfig(canvas_px=48, levels=2, atoms=16, candidates=64),
}  # fmt: skip


def test_the_example_runs_from_its_first_line_to_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_backbone(tmp_path / "start.safetensors", Backbone(TINY))
    really = api.run

    def smaller(experiment: Experiment, out: Path | str) -> api.Run:
        small = dataclasses.replace(
            experiment,
            backbone=str(tmp_path / "start.safetensors"),
            population=dataclasses.replace(experiment.population, **SMALL),
            federation=dataclasses.replace(experiment.federation, rounds=1, local_steps=1, batch=1),
            evaluation=dataclasses.replace(experiment.evaluation, records=1, photos=1, tastes=1, paint_px=64),
        )
        return really(small, out, quiet=True)

    monkeypatch.setattr(api, "run", smaller)
    monkeypatch.setattr("os.fsync", lambda handle: None)
    monkeypatch.setattr(sys, "argv", ["federated_in_ten_lines.py", str(tmp_path / "run")])
    runpy.run_path(str(ROOT / "examples/federated_in_ten_lines.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert "local" in told and "gain of fedavg over local" in told
    assert (tmp_path / "run/report.html").is_file()
    run = load(tmp_path / "run")
    assert [row["method"] for row in run.figures()] == ["local", "fedavg", "ditto"]
    assert set(run.losses("ditto")) == {(0, 0), (0, 1)}
    with pytest.raises(InputError, match="no method 'fedavgg'") as caught:
        run.losses("fedavgg")
    assert "'fedavg'" in caught.value.hint
    assert compare([run], tmp_path / "out").is_file()


def test_mistakes_are_said_before_anything_runs(tmp_path: Path) -> None:
    wrong = Experiment(method=(Method("fedprox", options={"muu": 1.0}),), federation=Federation(unprotected=True))
    with pytest.raises(ConfigError, match="unknown key 'muu'"):
        api.run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(MissingError, match="holds no experiment"):
        load(tmp_path)


def test_the_package_is_light_until_something_of_it_is_used() -> None:
    code = "import sys, simulations; print(sorted({'torch', 'flwr'} & set(sys.modules)), dir(simulations)[0])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.startswith(
        "[]"
    )
    assert all(hasattr(simulations, name) for name in simulations.__all__)
    with pytest.raises(AttributeError, match="nothing_like_that"):
        _ = simulations.nothing_like_that
