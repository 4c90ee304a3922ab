"""What is shared, and weights on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from shared_model import split
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import CompatibilityError, StorageError
from shared_model.head import Head
from shared_model.weights import (
    architecture_hash,
    backbone_id,
    default_backbone,
    default_heads,
    load_backbone,
    read_manifest,
    save_backbone,
)


def test_flatten_and_unflatten_are_inverse(backbone: Backbone, small_model: ModelConfig) -> None:
    vector = split.flatten(backbone)
    other = Backbone(small_model, seed=9)
    split.unflatten(other, vector)
    assert torch.equal(split.flatten(other), vector)
    assert len(vector) == split.size(small_model)
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, dict(backbone.named_parameters())[name])


def test_everything_in_the_backbone_is_shared_and_nothing_of_a_head(backbone: Backbone, head: Head) -> None:
    names = split.shared_parameters(backbone)
    assert set(names) == {name for name, _ in backbone.named_parameters()}
    assert list(backbone.buffers()) == []
    assert not isinstance(head, torch.nn.Module)
    vector, private = split.flatten(backbone), head.levels[0].values.flatten()[:64]
    assert not any(torch.equal(window, private) for window in vector.unfold(0, 64, 1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v[:-1],
        lambda v: torch.cat([v, v[:1]]),
        lambda v: v.double(),
        lambda v: v[None],
        lambda v: torch.where(torch.arange(len(v)) == 5, torch.nan, v),
        lambda v: torch.where(torch.arange(len(v)) == 5, torch.inf, v),
    ],
)
def test_a_vector_that_does_not_fit_changes_nothing(backbone: Backbone, spoil: object) -> None:
    assert callable(spoil)
    before = split.flatten(backbone)
    bad: Tensor = spoil(before)
    with pytest.raises(CompatibilityError):
        split.unflatten(backbone, bad)
    assert torch.equal(split.flatten(backbone), before)


def test_saved_weights_come_back_with_their_manifest(backbone: Backbone, tmp_path: Path) -> None:
    path = save_backbone(tmp_path / "b.safetensors", backbone, manifest={"round": "3", "format": "lie"})
    again = load_backbone(path)
    assert backbone_id(again) == backbone_id(backbone)
    assert not again.training
    assert read_manifest(path)["round"] == "3"
    assert read_manifest(path)["architecture"] == architecture_hash(backbone.config)


def test_damaged_weights_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    path = save_backbone(tmp_path / "b.safetensors", backbone)
    whole = path.read_bytes()
    for spoiled in (b"", whole[:100], whole[:-1], whole[:-4] + b"\x00\x00\x80\x3f", b"not weights at all" * 9):
        path.write_bytes(spoiled)
        with pytest.raises(StorageError):
            load_backbone(path)
    with pytest.raises(StorageError):
        load_backbone(tmp_path / "none.safetensors")


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(2)}, metadata={"format": "other"}))
    with pytest.raises(CompatibilityError):
        load_backbone(path)


def test_architectures_are_told_apart() -> None:
    hashes = {architecture_hash(c) for c in (ModelConfig(), ModelConfig(trunk="cnn"), ModelConfig(width=41))}
    assert len(hashes) == 3


def test_easel_ships_a_backbone_and_heads_that_belong_to_it() -> None:
    shipped = backbone_id(default_backbone())
    heads = default_heads()
    assert {"cartoon", "impressionist", "oil", "sketch"} <= set(heads)
    for path in heads.values():
        assert Head.from_bytes(path.read_bytes()).backbone == shipped
