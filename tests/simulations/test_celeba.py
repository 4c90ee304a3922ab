"""The recipe from a small folder made on the spot, as a user runs it, and again, and with mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError
from shared_model.head import Head
from shared_model.images import load_picture, save_picture
from shared_model.weights import load_backbone, save_backbone
from simulations.celeba import default_path, load_config
from simulations.cli import main

SETTINGS = """
train_faces = 4
sketched_faces = 3
head_faces = 2
tune_s = 0.0
judged_faces = 2
size_px = 64
skip = ["Blurry"]
report = ["Male"]
[train]
steps = 3
batch = 2
crop_px = 48
record_px = 56
first_visits = 1
visits = 1
photos_per_visit = 2
restyles_per_visit = 0
restyle_share = 0.0
epoch_steps = 2
[train.head]
levels = 2
patch = 5
atoms = 32
components = 8
candidates = 200
"""


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights" / "backbone.safetensors"
    save_backbone(path, Backbone(ModelConfig(width=8, blocks=1, code_dim=4, encoder_width=3, critic_width=4), seed=3))
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: path)


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Ten ovals with eyes in the layout of Kaggle; the seventh (validation) is blurry."""
    root = tmp_path / "celeba"
    rows, columns = np.mgrid[0:88, 0:72]
    for index in range(10):
        face = (rows - 44) ** 2 / 38**2 + (columns - 36 - index % 3) ** 2 / 26**2 < 1
        eyes = sum((rows - 36) ** 2 + (columns - x) ** 2 < 16 for x in (27, 46)) > 0
        rgb = np.where(face[..., None], (210, 170 - 5 * index, 140), (60, 80, 100 + 10 * index))
        rgb = np.where(eyes[..., None], 30, rgb) + np.random.default_rng(index).integers(-6, 7, rgb.shape)
        folder = root / "img_align_celeba" / "img_align_celeba"
        save_picture(folder / f"{index:06d}.png", rgb.clip(0, 255).astype(np.uint8))
    partition = "".join(f"{i:06d}.png,{0 if i < 5 else 1 if i < 8 else 2}\n" for i in range(10))
    (root / "list_eval_partition.csv").write_text("image_id,partition\n" + partition)
    attributes = "".join(f"{i:06d}.png,{1 if i == 6 else -1},{1 if i % 2 else -1}\n" for i in range(10))
    (root / "list_attr_celeba.csv").write_text("image_id,Blurry,Male\n" + attributes)
    (tmp_path / "small.toml").write_text(SETTINGS)
    return root


@pytest.fixture
def recipe(
    tiny_weights: None, celeba: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*more: str) -> tuple[int, str, str]:
        arguments = ["recipe", "celeba", "--images", str(celeba), "--out", str(tmp_path / "out")]
        code = main([*arguments, "--config", str(tmp_path / "small.toml"), *more])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_the_recipe_trains_judges_and_draws(recipe: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = recipe("--json")
    facts = json.loads(out)
    assert code == 0 and facts["faces"] == {"train": 4, "sketched": 3, "head": 2, "listed": True}
    for split in ("validation", "test"):
        figures = facts["splits"][split]
        assert figures["faces"] == 2
        for measure in ("agreement", "difference", "content"):
            row = figures[measure]
            assert row["change"]["mean"] == pytest.approx(row["after"] - row["before"], abs=2e-4)
    assert facts["by_attribute"]["Male"]["with"]["faces"] + facts["by_attribute"]["Male"]["without"]["faces"] == 2
    folder = tmp_path / "out"
    assert load_picture(folder / "test.png").rgb.shape[1] == 10 + 5 * 230
    head = Head.from_bytes((folder / "sketch.head").read_bytes())
    tuned = load_backbone(folder / "backbone.safetensors")
    assert head.config.canvas_px == 64 and head.images == 2
    assert json.loads((folder / "recipe.json").read_text()) == facts
    start = load_backbone(tmp_path / "weights" / "backbone.safetensors")
    moved = [not bool((a == b).all()) for a, b in zip(start.parameters(), tuned.parameters(), strict=True)]
    assert any(moved), "fine-tuning changes the backbone"


def test_it_goes_on_after_a_stop_and_refuses_another_runs_folder(
    recipe: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("simulations.celeba._head", stop)
        code, _, err = recipe()
        assert code == 130 and "goes on" in err
    code, out, err = recipe()
    assert code == 0 and "going on at step 3" in err and "FINE-TUNED" in out
    code, _, err = recipe("--steps", "5")
    assert code == 2 and "another run" in err
    (tmp_path / "out" / "config.json").unlink()
    code, _, err = recipe()
    assert code == 2 and "not empty" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("judged_faces = 0", "judged_faces"),
        ("head_faces = 9", "head_faces"),
        ("nonsense = 1", "unknown key"),
        ('skip = ["Bald"]', "no attribute 'Bald'"),
    ],
)
def test_mistakes_in_the_settings_are_errors(
    recipe: Callable[..., tuple[int, str, str]], tmp_path: Path, change: str, message: str
) -> None:
    key = change.split()[0]
    lines = [line for line in SETTINGS.splitlines() if line.split(" = ")[0] != key]
    (tmp_path / "small.toml").write_text("\n".join([change, *lines]))
    code, out, err = recipe()
    assert code == 2 and not out and message in err


def test_the_shipped_settings_are_valid() -> None:
    config = load_config()
    assert default_path().name == "celeba_sketch.toml"
    assert config.train.head.canvas_px == config.size_px and config.train.record_px <= config.size_px
    assert load_config(steps=7).train.steps == 7
    with pytest.raises(ConfigError):
        load_config(steps=-1)
