"""The comparison of losses: runs differ in what is named only, are kept, and end in one table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from shared_model.config import ADVERSARIAL, TRUNKS, TrainConfig, load_toml
from shared_model.errors import ConfigError
from shared_model.images import load_picture
from simulations.cli import main
from simulations.studies import losses
from simulations.studies.losses import LossStudy, arms_of, default_config
from simulations.studies.plots import Line, write_plot

TINY = """
losses = ["none", "hinge"]
trunks = ["cnn"]
pairs = 1
photos = 1
[train]
steps = 12
batch = 1
crop_px = 48
record_px = 64
first_visits = 1
photos_per_visit = 1
restyles_per_visit = 0
restyle_share = 0.0
[train.head]
canvas_px = 96
atoms = 32
candidates = 200
[train.model]
width = 8
blocks = 1
encoder_width = 8
critic_width = 8
"""


def test_a_wasserstein_critic_takes_the_small_steps_of_its_paper() -> None:
    arms = {arm.config.loss.adversarial: arm.config for arm in arms_of(LossStudy(trunks=("resnet",)))}
    assert arms["wasserstein-gp"].critic_rate == 1e-4
    assert arms["hinge"].critic_rate == arms["none"].critic_rate == LossStudy().train.critic_rate > 1e-4
    slower = arms_of(LossStudy(train=TrainConfig(critic_rate=5e-5)))
    assert {arm.config.critic_rate for arm in slower} == {5e-5}


def test_the_shipped_comparison_has_every_loss_and_every_trunk() -> None:
    study = load_toml(default_config(), LossStudy)
    assert set(study.losses) == set(ADVERSARIAL) and set(study.trunks) == set(TRUNKS)
    arms = arms_of(study)
    assert [arm.name for arm in arms][-1] == "hinge-cnn" and len(arms) == len(ADVERSARIAL) + len(TRUNKS) - 1
    first = arms[0].config
    for arm in arms:  # nothing but the loss and the trunk differs, and a Wasserstein critic's step size (above)
        loss = dataclasses.replace(arm.config.loss, adversarial=first.loss.adversarial)
        model = dataclasses.replace(arm.config.model, trunk=first.model.trunk)
        rate = first.critic_rate if arm.config.loss.adversarial == "wasserstein-gp" else arm.config.critic_rate
        assert dataclasses.replace(arm.config, loss=loss, model=model, critic_rate=rate) == first


@pytest.mark.parametrize("change", [{"losses": ("hinge", "hinge")}, {"trunks": ("vit",)}, {"losses": ()}, {"pairs": 0}])
def test_wrong_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(LossStudy(), **change)  # type: ignore[arg-type]


def test_runs_are_trained_once_on_the_same_records_and_compared(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    splits = {"photos_train": ["0.png"], "photos_val": ["1.png"], "art_train": ["slanted.png"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits | {"art_test": ["ada/upright.png"]}))
    arguments = [
        *("study", "losses", "--photos", str(gallery / "photos"), "--art", str(gallery / "art")),
        *("--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out")),
        *("--splits", str(tmp_path / "splits.json")),
    ]
    assert main(arguments) == 0
    facts = json.loads((tmp_path / "out" / "losses.json").read_text())
    assert facts["ended"] == {"none-cnn": "", "hinge-cnn": ""}
    assert {(row["content_image"], row["style_image"]) for row in facts["rows"]} == {("1", "ada-upright")}
    text = (tmp_path / "out" / "losses.md").read_text()
    assert "| hinge-cnn |" in text and "from scratch" in text and "against none-cnn" in text
    curves = [(tmp_path / "out/runs" / name / "curve.csv").read_text().splitlines() for name in facts["ended"]]
    assert [row.split(",")[0] for row in curves[0]] == ["step", "10", "12"]
    assert "critic" in curves[1][0] and "critic" not in curves[0][0]
    assert load_picture(tmp_path / "out" / "rest.png").rgb.shape == (520, 900, 3)
    monkeypatch.setattr(losses, "Trainer", lambda *_, **__: pytest.fail("trained twice"))
    capsys.readouterr()
    assert main(arguments) == 0
    assert "hinge-cnn: kept" in capsys.readouterr().err


def test_a_run_that_diverges_is_noted_and_the_others_go_on(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from client.console import Console
    from shared_model.errors import EaselError
    from shared_model.training import Trainer

    step = Trainer.step

    def sometimes(self: Trainer) -> dict[str, float]:
        if self.config.loss.adversarial == "none" and self.step_count == 1:
            raise EaselError("training diverged at step 1")
        return step(self)

    monkeypatch.setattr(Trainer, "step", sometimes)
    (tmp_path / "tiny.toml").write_text(TINY)
    study = load_toml(tmp_path / "tiny.toml", LossStudy)
    art = [gallery / "art" / "slanted.png"]
    ended = losses.train_arms(study, [gallery / "photos" / "0.png"], art, tmp_path / "out", Console())
    assert ended == {"none-cnn": "training diverged at step 1", "hinge-cnn": ""}


def test_plots_put_points_where_they_belong(tmp_path: Path) -> None:
    line = Line("up", ((1.0, 0.0), (1000.0, 1.0)), ((0.0, 0.1), (0.9, 1.0)))
    path = write_plot(tmp_path / "plot.png", [line], title="t", x_name="x", y_name="y", log_x=True)
    picture = load_picture(path).rgb.astype(int)
    blue = (abs(picture - [11, 98, 164]).sum(2) < 10)[:, :670]  # the legend is further right
    rows, columns = blue.nonzero()
    assert rows[columns < 90].mean() > 400 > 100 > rows[columns > 660].mean()
