"""``easel train``: splits, run folders, resuming, refusing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from client.central import Run, split_pictures
from client.cli import main
from shared_model.config import TrainConfig
from shared_model.errors import InputError, MissingError
from shared_model.images import save_picture
from shared_model.weights import load_backbone

TOML = """
steps = 4
batch = 2
epoch_steps = 2
first_visits = 1
visits = 1
photos_per_visit = 1
restyles_per_visit = 0
crop_px = 48
record_px = 48
[head]
canvas_px = 64
atoms = 32
candidates = 200
components = 8
[model]
width = 8
blocks = 1
code_dim = 8
encoder_width = 6
critic_width = 8
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of five photos and five paintings."""
    for name, seed in (("photos", 0), ("art", 100)):
        for index in range(5):
            noise = np.random.default_rng(seed + index).integers(0, 256, (8, 9, 3), dtype=np.uint8)
            save_picture(tmp_path / name / f"{index}.png", noise.repeat(9, 0).repeat(9, 1))
    (tmp_path / "run.toml").write_text(TOML)
    return tmp_path / "photos", tmp_path / "art"


def _train(folders: tuple[Path, Path], out: Path, *more: str) -> int:
    photos, art = map(str, folders)
    config = str(folders[0].parent / "run.toml")
    return main(
        ["train", "--photos", photos, "--art", art, "--config", config, "-o", str(out), "--device", "cpu", *more]
    )


def test_a_run_leaves_weights_curves_samples_and_a_test_figure(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _train(folders, out, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["steps"] == 4 and facts["test"]["total"] > 0
    assert load_backbone(out / "backbone.safetensors").config.width == 8
    rows = list(csv.DictReader((out / "epochs.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert float(rows[0]["train_critic"]) > 0 and float(rows[0]["validation_total"]) > 0
    assert len(list((out / "samples").glob("*.jpg"))) == 2
    assert list((out / "tensorboard").glob("events.*"))


def test_an_interrupted_run_is_saved_and_goes_on(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared_model.training import Trainer

    step, out = Trainer.step, tmp_path / "run"

    def impatient(self: Trainer) -> dict[str, float]:
        if self.step_count == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", impatient)
    assert _train(folders, out) == 130
    told = capsys.readouterr().err
    assert "step 3 of 4" in told and f"--resume {out}" in told
    monkeypatch.setattr(Trainer, "step", step)
    assert main(["train", "--resume", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4


def test_held_out_pictures_are_apart_and_stay_where_they_are(folders: tuple[Path, Path]) -> None:
    photos, config = folders[0], TrainConfig()
    parts = split_pictures(photos, config)
    assert len(parts.train) == 3 and len(parts.validation) == len(parts.test) == 1
    assert len({*parts.train, *parts.validation, *parts.test}) == 5
    shutil.move(photos / "0.png", photos / "renamed.png")
    names = {path.name for path in split_pictures(photos, config).train}
    assert names == {path.name.replace("0.png", "renamed.png") for path in parts.train}


def test_what_cannot_be_trained_is_refused_in_one_line(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (["train"], 2, "--photos DIR"),
        (["train", "--photos", str(empty), "--art", str(folders[1]), "-o", str(tmp_path / "a")], 2, "picture"),
        (["train", "--resume", str(empty)], 3, "not a training run"),
        (["train", "--resume", str(empty), "--steps", "3"], 2, "--steps"),
        (["train", "--photos", "x", "--art", "y", "--adversarial", "gan", "-o", str(tmp_path / "b")], 2, "hinge"),
    ]
    for arguments, code, words in cases:
        assert main(arguments) == code
        told = capsys.readouterr().err
        assert told.startswith("error: ") and words in told and "Traceback" not in told
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_a_used_folder_is_not_overwritten(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not empty"):
        Run.create(tmp_path / "used", TrainConfig(), photos=str(folders[0]), art=str(folders[1]))
    with pytest.raises(MissingError):
        Run.open(tmp_path / "used")
