"""The heads that easel ships are those that its own painters make."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared_model.backbone import Backbone
from shared_model.config import ModelConfig, TrainConfig, load_toml
from shared_model.head import Head
from shared_model.images import to_tensor
from shared_model.stylize import stylize
from shared_model.weights import backbone_id, default_backbone, default_backbone_path, default_heads
from simulations import shipped_heads
from simulations.painters import PAINTERS
from simulations.pictures import default_photos


def test_every_manner_is_shipped_with_the_head_that_its_recipe_makes() -> None:
    shipped = {name: Head.from_bytes(path.read_bytes()) for name, path in default_heads().items()}
    assert set(shipped) == set(shipped_heads.MANNERS)
    for name, head in shipped.items():
        manner = shipped_heads.MANNERS[name]
        assert manner.style.painter in PAINTERS
        assert (head.name, head.images) == (name, 12 if manner.hues else 4)
        assert head.config == manner.head or (name in ("sketch", "woodcut") and head.hatching is not None)
    assert [name for name, head in shipped.items() if head.config.graphic] == [
        "cartoon",
        "sketch",
        "watercolor",
        "woodcut",
    ]


def test_a_head_is_made_from_paintings_of_its_manner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_heads, "_CANVAS_PX", 64)
    monkeypatch.setattr(shipped_heads, "_MODELS", ("coffee",))
    backbone = Backbone(ModelConfig(width=8, blocks=1))
    head = shipped_heads.make_head("sketch", backbone)
    assert head.backbone == backbone_id(backbone)
    assert float(head.color.covariance.diag().sum()) > 0
    assert head.images == 1
    gray = head.levels[0].values
    assert float((gray - gray.mean(1, keepdim=True)).abs().mean()) < 0.03  # pencil on paper has no color


def test_heads_in_the_photos_colors_have_strokes_of_every_hue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_heads, "_CANVAS_PX", 64)
    monkeypatch.setattr(shipped_heads, "_MODELS", ("coffee",))
    pictures = shipped_heads.paintings(shipped_heads.MANNERS["oil"])
    warm, green, cold = (picture.mean((0, 2, 3)) for picture in pictures)
    assert int(warm.argmax()) == 0 and {int(green.argmax()), int(cold.argmax())} == {1, 2}
    for manner in shipped_heads.MANNERS.values():
        assert manner.hues == (manner.head.palette == 0)


def test_a_shipped_head_paints_with_the_shipped_backbone() -> None:
    backbone, photo = default_backbone(), to_tensor(default_photos()["coffee_cup"][:96, :96])
    head = Head.from_bytes(default_heads()["woodcut"].read_bytes())
    painted = stylize(photo, head=head, backbone=backbone)
    assert float((painted - photo).abs().mean()) > 0.1
    assert bool(torch.isfinite(painted).all())


def test_the_recipe_of_the_shipped_backbone_is_shipped_too() -> None:
    path: Path = default_backbone_path().parent / "train.toml"
    assert load_toml(path, TrainConfig).model == default_backbone().config
