"""Levels of tuning: adapters start as nothing and merge exactly; splits are disjoint; one table comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.head import Head
from shared_model.images import load_picture, load_tensor, save_picture
from shared_model.split import flatten, shared_parameters
from shared_model.weights import backbone_id, save_backbone
from simulations.cli import main
from simulations.painters import Style
from simulations.studies import transfer
from simulations.studies.adapters import LEVELS, Tuned, adapt, add_adapters, merge_adapters
from simulations.studies.transfer import _photos as photos_of
from simulations.studies.transfer import builtin_pictures, parser, to_markdown

SMALL = ModelConfig(width=8, blocks=1, encoder_width=8, critic_width=8)


def _paint(backbone: Backbone) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    colored, draft = (torch.rand(1, 3, 32, 32, generator=generator) for _ in range(2))
    numbers = torch.randn(1, backbone.encode(colored).shape[1], generator=generator)
    with torch.no_grad():
        return backbone.paint(colored, draft, numbers, torch.zeros(1, 1, 32, 32))


def test_adapters_change_nothing_until_trained_and_merge_into_plain_weights() -> None:
    backbone = Backbone(SMALL)
    before, names = _paint(backbone), shared_parameters(backbone)
    added = add_adapters(backbone, rank=2, seed=0)
    assert torch.allclose(_paint(backbone), before, atol=1e-6)
    with torch.no_grad():
        for parameter in added:
            parameter.add_(0.3)
    changed = _paint(backbone)
    assert not torch.allclose(changed, before, atol=1e-3)
    merge_adapters(backbone)
    assert torch.allclose(_paint(backbone), changed, atol=1e-6)
    assert shared_parameters(backbone) == names


@pytest.fixture(scope="module")
def tuned(gallery: Path) -> dict[str, Tuned]:
    style = load_tensor(gallery / "art" / "slanted.png")
    photos = [load_tensor(gallery / "photos" / f"{i}.png") for i in range(2)]
    backbone = Backbone(SMALL, seed=3)
    config = HeadConfig(canvas_px=160, atoms=64, candidates=500)
    head = Head.fit([style], backbone=backbone, config=config)
    weights = flatten(backbone)
    found = {
        level: adapt(
            head,
            [style],
            backbone=backbone,
            photos=photos[:1],
            validation=photos[1:],
            level=level,
            steps=6,
            rank=2,
            seed=0,
            record_px=64,
            crop_px=48,
        )
        for level in LEVELS
    }
    assert torch.equal(flatten(backbone), weights), "the shared backbone is left as it was"
    return found


def test_each_level_tunes_more_numbers_and_never_ends_worse_on_validation(tuned: dict[str, Tuned]) -> None:
    counts = [tuned[level].parameters for level in LEVELS]
    assert counts[0] == 0 and counts[1] == len(tuned["nothing"].head.modulation)
    assert counts == sorted(counts) and len(set(counts)) == 4
    for level in LEVELS:
        assert tuned[level].after <= tuned[level].before == pytest.approx(tuned["nothing"].before, abs=1e-5)
    assert min(tuned[level].after for level in LEVELS[1:]) < tuned["nothing"].before


def test_what_is_tuned_is_what_the_level_says(tuned: dict[str, Tuned]) -> None:
    base = tuned["nothing"]
    for level in LEVELS[:2]:
        assert torch.equal(flatten(tuned[level].backbone), flatten(base.backbone))
    for level in LEVELS:
        assert tuned[level].head.backbone == backbone_id(tuned[level].backbone)
        for part in ("style_encoder", "discriminator"):
            ours, theirs = (getattr(t.backbone, part).state_dict() for t in (tuned[level], base))
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_no_built_in_photo_is_in_two_splits() -> None:
    splits = photos_of(parser().parse_args(["--out", "x"]))
    assert {name: len(photos) for name, photos in splits.items()} == {"tuning": 4, "validation": 2, "test": 4}


def test_photos_of_a_folder_are_split_without_overlap(gallery: Path) -> None:
    splits = photos_of(parser().parse_args(["--out", "x", "--photos", str(gallery / "photos")]))
    means = [float(photo.mean()) for photos in splits.values() for photo in photos]
    assert len(means) == len(set(means)) == 3


def test_own_painters_make_different_pictures() -> None:
    pictures = builtin_pictures(Style("sketch", stroke=1.4), 4, size_px=64)
    assert len(pictures) == 4 and all(picture.shape == (1, 3, 64, 64) for picture in pictures)
    assert not torch.equal(pictures[0], pictures[3])


@pytest.mark.slow
def test_the_command_scores_against_the_fitted_picture_and_another(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_backbone(tmp_path / "b.safetensors", Backbone(SMALL, seed=3))
    arguments = [
        *("study", "transfer", "--pictures", str(gallery / "art"), "--photos", str(gallery / "photos")),
        *("--backbone", str(tmp_path / "b.safetensors"), "--out", str(tmp_path / "out"), "--images", "1"),
        *("--references", "1", "--levels", "nothing", "modulation", "--steps", "1"),
    ]
    assert main(arguments) == 0
    cells = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert [(cell["images"], cell["level"]) for cell in cells] == [(1, "nothing"), (1, "modulation")]
    assert all([row["other"] for row in cell[part]] == [0.0, 1.0] for cell in cells for part in ("validation", "test"))
    assert "| 1 | modulation |" in (tmp_path / "out" / "transfer.md").read_text()
    assert load_picture(tmp_path / "out" / "transfer.png").rgb.shape[2] == 3
    assert main([*arguments[:-6], "2", "--images", "1"]) == 2
    assert "too few" in capsys.readouterr().err


def test_the_table_pairs_gains_and_keeps_other_pictures_apart(tmp_path: Path) -> None:
    def cell(count: int, level: str, own: float, other: float) -> dict[str, Any]:
        parts = ("headline", "content", "texture", "joint")
        rows = [dict.fromkeys(parts, value) | {"other": kind} for value, kind in ((own, 0.0), (other, 1.0))]
        facts = {"manner": "m", "images": count, "level": level, "parameters": 10 * len(level), "test": rows}
        return facts | {"loss_before": 0.5, "loss_after": 0.4, "validation": rows}

    cells = [
        cell(n, level, 0.6 + gain, 0.2 + gain) for n in (1, 4) for level, gain in (("nothing", 0), ("low-rank", 0.1))
    ]
    text = to_markdown(cells)
    row = next(line for line in text.splitlines() if line.startswith("| 4 | low-rank |"))
    assert "0.700 [0.700, 0.700]" in row and "0.300 [0.300, 0.300]" in row and row.count("0.100 [0.100, 0.100]") == 3
    for line in text.splitlines()[2:7]:
        assert line.count("|") == text.splitlines()[2].count("|")
    for index, name in enumerate(f"m-{n}-{level}-0" for n in (1, 4) for level in ("nothing", "low-rank")):
        save_picture(tmp_path / "painted" / f"{name}.png", np.full((8, 8, 3), 40 * index, dtype=np.uint8))
    save_picture(tmp_path / "painted" / "m-reference.png", np.zeros((8, 8, 3), dtype=np.uint8))
    transfer._draw(tmp_path, cells, [torch.rand(1, 3, 8, 8)])
    assert (tmp_path / "transfer.png").is_file() and (tmp_path / "sheet.png").is_file()
