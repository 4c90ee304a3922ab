"""The judge learns who painted what, is honest on works it has not seen, and reports pair by pair."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from shared_model.backbone import Backbone
from shared_model.errors import InputError, StorageError
from shared_model.images import load_tensor, save_picture
from shared_model.weights import save_backbone
from simulations.cli import main
from simulations.studies import classifier, judge
from simulations.studies.classifier import CROP_PX, Classifier, train_classifier
from simulations.studies.folds import SCALE_PX, folds_of
from simulations.studies.votes import Vote, real_accuracy, separable, vote


def _works(atelier: Path, *numbers: int) -> dict[str, list[torch.Tensor]]:
    return {name: [load_tensor(atelier / name / f"{n}.png") for n in numbers] for name in ("level", "steep")}


@pytest.fixture(scope="module")
def gray_judge(atelier: Path) -> Classifier:
    return train_classifier(_works(atelier, 0), gray=True, steps=40, seed=0)


def test_a_gray_judge_tells_painters_of_one_palette_apart_on_a_work_it_has_not_seen(
    gray_judge: Classifier, atelier: Path
) -> None:
    votes = [vote(gray_judge, works[0], name) for name, works in _works(atelier, 1).items()]
    assert real_accuracy(votes)["crops"] > 0.8
    assert real_accuracy(votes)["pictures"] == 1.0
    assert separable(real_accuracy(votes), factor=1.5) == ["level", "steep"]


def test_tone_and_palette_cannot_help_a_gray_judge() -> None:
    crops = torch.rand(2, 3, 32, 32) * 0.5
    assert torch.allclose(classifier._seen(crops, True), classifier._seen(crops * 1.5 + 0.1, True), atol=0.15)
    assert classifier._seen(crops, True).shape[1] == 1 and classifier._seen(crops, False).shape[1] == 3


def test_a_kept_judge_says_the_same(gray_judge: Classifier, atelier: Path, tmp_path: Path) -> None:
    gray_judge.save(tmp_path / "judge.safetensors")
    again = Classifier.load(tmp_path / "judge.safetensors")
    picture = load_tensor(atelier / "level" / "1.png")
    assert torch.equal(again.probabilities(picture), gray_judge.probabilities(picture))
    (tmp_path / "judge.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(StorageError, match="damaged judge"):
        Classifier.load(tmp_path / "judge.safetensors")


def test_the_same_seed_trains_the_same_judge(atelier: Path) -> None:
    first, second = (train_classifier(_works(atelier, 0), gray=False, steps=2, seed=5) for _ in range(2))
    picture = load_tensor(atelier / "level" / "1.png")
    assert torch.equal(first.probabilities(picture), second.probabilities(picture))


@pytest.mark.parametrize("size", [(CROP_PX, CROP_PX), (200, 130), (20, 300)])
def test_pictures_of_any_size_are_judged(gray_judge: Classifier, size: tuple[int, int]) -> None:
    chances = gray_judge.probabilities(torch.rand(1, 3, *size))
    assert chances.shape[1] == 2 and len(chances) >= 1
    assert torch.allclose(chances.sum(1), torch.ones(len(chances)), atol=1e-5)


def test_no_work_is_on_both_sides_and_each_is_aside_once(atelier: Path, tmp_path: Path) -> None:
    folds = folds_of(atelier, count=4, unit="painter", halves=tmp_path)
    assert len(folds) == 2  # as many as the painter with the fewest works has
    for name in ("level", "steep"):
        assert all(not set(fold.learned[name]) & set(fold.aside[name]) for fold in folds)
        assert sorted(file for fold in folds for file in fold.aside[name]) == sorted((atelier / name).iterdir())


def test_halves_of_a_work_share_no_pixel_column(atelier: Path, tmp_path: Path) -> None:
    first, second = folds_of(atelier, count=2, unit="work", halves=tmp_path)
    assert first.learned["level-0"] == second.aside["level-0"] != first.aside["level-0"]
    left, right = (load_tensor(fold.learned["level-0"][0]) for fold in (first, second))
    whole = load_tensor(atelier / "level" / "0.png", SCALE_PX)
    assert torch.allclose(torch.cat([left, right], 3), whole, atol=1 / 255)


def test_too_few_painters_or_works_are_refused(tmp_path: Path) -> None:
    save_picture(tmp_path / "ada" / "0.png", np.zeros((20, 20, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="two painters"):
        folds_of(tmp_path, count=2, unit="painter", halves=tmp_path)


def test_only_painters_above_chance_count() -> None:
    def votes(right: str, other: str, crops: float) -> Vote:
        return Vote(right, (right, other), math.log(0.5), crops)

    accuracy = real_accuracy([votes("a", "b", 0.9), votes("a", "b", 0.7), votes("b", "a", 0.3)])
    assert accuracy["painters"] == pytest.approx({"a": 0.8, "b": 0.3})
    assert separable(accuracy, factor=1.5) == ["a"]
    assert accuracy["confusion"] == {"a": {"a": 2}, "b": {"b": 1}}


@pytest.mark.slow
def test_the_command_compares_hands_on_the_same_photos_and_keeps_its_judges(
    atelier: Path, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_backbone(tmp_path / "b.safetensors", Backbone(seed=3))
    arguments = [
        *("study", "judge", "--painters", str(atelier), "--photos", str(gallery / "photos")),
        *("--backbone", f"new={tmp_path / 'b.safetensors'}", "--out", str(tmp_path / "out")),
        *("--folds", "2", "--photos-per-head", "1", "--steps", "2", "--factor", "0"),
    ]
    assert main(arguments) == 0
    facts = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert facts["hands"] == ["head", "palette", "new"]
    for found in facts["judges"].values():
        assert found["counted"] == ["level", "steep"]
        means = {hand: row["log_probability"]["mean"] for hand, row in found["stylized"].items()}
        difference = found["differences"]["new - head"]["log_probability"]
        assert difference["mean"] == pytest.approx(means["new"] - means["head"]) and difference["count"] == 4
    assert main([*arguments, "--folds", "1"]) == 2
    monkeypatch.setattr(judge, "train_classifier", lambda *_, **__: pytest.fail("trained twice"))
    assert main([*arguments, "--factor", "99"]) == 0
    facts = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert all(found["counted"] == [] and found["stylized"] == {} for found in facts["judges"].values())
    assert "nobody" in (tmp_path / "out" / "judge.md").read_text()
