"""A tiny backbone with one tiny shipped head, an empty home, and small pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client.cli import main
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.head import Head
from shared_model.images import save_picture, to_tensor
from shared_model.weights import save_backbone

TINY = HeadConfig(canvas_px=48, levels=2, patch=5, atoms=16, components=4, candidates=64)


def pixels(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth random picture ``(height, width, 3) uint8``."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    grown = torch.nn.functional.interpolate(to_tensor(coarse), size=(height, width), mode="bilinear")
    return (grown[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


@pytest.fixture(scope="session")
def smooth() -> Callable[..., np.ndarray]:
    """Make pictures: ``smooth(seed, height, width)``; the tiny head was made from ``smooth(1)``."""
    return pixels


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    config = ModelConfig(width=8, blocks=1, code_dim=4, encoder_width=3, critic_width=4)
    return Backbone(config, seed=3).eval()


@pytest.fixture(scope="session")
def tiny_head(backbone: Backbone) -> Head:
    return Head.fit([to_tensor(pixels(1))], backbone=backbone, name="tiny", config=TINY, created="2024-05-06T07:08:09")


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory, backbone: Backbone, tiny_head: Head) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_backbone(folder / "backbone.safetensors", backbone)
    (folder / "heads").mkdir()
    (folder / "heads" / "tiny.head").write_bytes(tiny_head.to_bytes())
    return folder


@pytest.fixture
def easel_home(own_home: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the command line at the tiny weights; returns the empty home that every test has."""
    path = weights_folder / "backbone.safetensors"
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: path)
    return own_home


@pytest.fixture
def tiny_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit every head at the tiny size, a hundred times faster; of its settings only the strokes are kept."""
    real = Head.fit

    def fit(styles: Sequence[Tensor], *, config: HeadConfig | None = None, **given: Any) -> Head:
        return real(styles, config=dataclasses.replace(TINY, abstraction=(config or TINY).abstraction), **given)

    monkeypatch.setattr(Head, "fit", fit)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three small photos, one in a sub-folder."""
    folder = tmp_path / "photos"
    save_picture(folder / "a.png", pixels(11))
    save_picture(folder / "b.jpg", pixels(12, height=56, width=40))
    save_picture(folder / "trip" / "c.png", pixels(13))
    return folder


Easel = Callable[..., tuple[int, str, str]]


@pytest.fixture
def easel(
    easel_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Easel:
    """Run the command line in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def is_one_error(err: str) -> bool:
    """Tell whether stderr is one error and at most a hint."""
    lines = err.strip().splitlines()
    return [line.split(":")[0] for line in lines] in (["error"], ["error", "hint"])
