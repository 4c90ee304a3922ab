"""What happens beside the measuring: averages, profiles, and where rows go."""

from __future__ import annotations

import builtins
import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from shared_model.backbone import Backbone
from shared_model.errors import MissingError
from shared_model.split import flatten
from simulations.experiment.callbacks import (
    Average,
    StopTraining,
    TensorBoard,
    WeightsAndBiases,
    callbacks_of,
    profiled,
)
from simulations.experiment.plan import load_plan
from simulations.experiment.run import run_experiment
from simulations.experiment.settings import CallbackConfig
from simulations.experiment.sinks import write_tables
from tests.simulations.experiment.conftest import TINY

RESULTS = [
    {
        "method": "fedavg",
        "seed": 0,
        "rows": [
            {"round": 0, "loss": 1.0, "devices": [2.0, None]},
            {"round": 1, "loss": 0.5, "epsilon": 1.5, "accepted": 2, "devices": [1.0, None]},
        ],
        "final": {"devices": [1.0, None]},
    }
]


def test_an_average_counts_each_round_once(tmp_path: Path) -> None:
    average = Average(tmp_path / "average.safetensors", decay=0.75)
    backbones = []
    for value in (1.0, 2.0):
        backbones.append(Backbone(TINY))
        with torch.no_grad():
            for parameter in backbones[-1].parameters():
                parameter.fill_(value)
    assert float(flatten(average.update(1, backbones[0])).mean()) == 1.0
    assert float(flatten(average.update(2, backbones[1])).mean()) == 1.25
    again = Average(tmp_path / "average.safetensors", decay=0.75)  # after a kill
    assert float(flatten(again.update(2, backbones[1])).mean()) == 1.25
    assert float(flatten(again.update(3, backbones[1])).mean()) == 1.4375


@pytest.mark.parametrize(("kind", "column"), [("cprofile", "tottime"), ("torch", "Self CPU")])
def test_a_profile_says_where_the_time_went(
    tmp_path: Path, kind: str, column: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StopTraining), profiled(kind, tmp_path / "profile.txt"):
        torch.ones(8, 8) @ torch.ones(8, 8)
        raise StopTraining  # a trial that ends early has a profile too
    assert column in (tmp_path / "profile.txt").read_text()
    with profiled("none", tmp_path / "other.txt"):
        pass
    assert not (tmp_path / "other.txt").exists()
    assert not any(capfd.readouterr()), "the profiler of torch talks"


def test_tensorboard_gets_every_number_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rows = [{"round": 0, "loss": 0.6}, {"round": 1, "loss": 0.5}, {"round": 2, "loss": 0.4}, {"round": 3, "loss": 0.3}]
    # The first start tells of rounds 0 and 1 and is killed when 2 is saved, before it was told of it.
    for saved, later in ((rows[:1], rows[1:2]), (rows[:3], rows[3:])):
        board = TensorBoard(tmp_path)
        board.on_start("trial", rows=saved)
        for row in later:
            board.on_round("trial", row)
        board.on_end("trial")
    events = accumulator.EventAccumulator(str(tmp_path / "trial"))
    events.Reload()
    found = [(event.step, round(event.value, 3)) for event in events.Scalars("loss")]
    assert found == [(0, 0.6), (1, 0.5), (2, 0.4), (3, 0.3)]


def test_tables_hold_every_round_and_device(tmp_path: Path) -> None:
    write_tables(tmp_path, RESULTS, csv=True, parquet=False)
    rounds = list(csv.DictReader((tmp_path / "rounds.csv").read_text().splitlines()))
    assert [(row["round"], row["loss"], row["epsilon"]) for row in rounds] == [("0", "1.0", ""), ("1", "0.5", "1.5")]
    devices = list(csv.DictReader((tmp_path / "devices.csv").read_text().splitlines()))
    assert [(row["device"], row["start"], row["loss"]) for row in devices] == [("0", "2.0", "1.0"), ("1", "", "")]


def test_parquet_holds_what_csv_does(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_tables(tmp_path, RESULTS, csv=False, parquet=True)
    rows = parquet.read_table(tmp_path / "rounds.parquet").to_pylist()
    assert [(row["round"], row["loss"], row["epsilon"]) for row in rows] == [(0, 1.0, None), (1, 0.5, 1.5)]
    assert not (tmp_path / "rounds.csv").exists()


def test_weights_and_biases_stays_offline_and_holds_every_round(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wandb = pytest.importorskip("wandb")
    board = WeightsAndBiases(tmp_path)
    board.on_start("trial", rows=[{"round": 1, "loss": 0.5}])
    run = board._runs["trial"]
    assert run.offline and run.settings.mode == "offline"
    board.on_round("trial", {"round": 2, "loss": 0.25})
    assert run.summary["loss"] == 0.25
    board.on_end("trial")
    (kept,) = tmp_path.rglob("*.wandb")
    assert kept.is_relative_to(tmp_path / "wandb")
    data = kept.read_bytes()
    assert b"0.5" in data and b"0.25" in data
    assert wandb.run is None and not any(capfd.readouterr())


@pytest.mark.parametrize("package", ["pyarrow", "wandb"])
def test_a_package_that_is_asked_for_and_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    real = builtins.__import__

    def importing(name: str, *values: Any, **named: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *values, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(MissingError, match=package):
        if package == "wandb":
            callbacks_of(CallbackConfig(wandb=True), tmp_path)
        else:
            write_tables(tmp_path, RESULTS, csv=False, parquet=True)
    (tmp_path / "x.toml").write_text(
        f"[federation]\nunprotected = true\n[callbacks]\n{'parquet' if package == 'pyarrow' else package} = true\n"
        '[[method]]\nname = "fedavg"\n'
    )
    with pytest.raises(MissingError, match=package):
        run_experiment(load_plan(tmp_path / "x.toml"), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "the folder is free for a run without it"
