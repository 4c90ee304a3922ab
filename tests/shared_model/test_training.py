"""Central training: it learns, it resumes, it refuses what does not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shared_model import split
from shared_model.config import ADVERSARIAL, HeadConfig, LossConfig, ModelConfig, TrainConfig
from shared_model.errors import CompatibilityError, EaselError, StorageError
from shared_model.training import Trainer, validation_records

Make = Callable[..., Trainer]


@pytest.fixture
def config(small_model: ModelConfig, small_head: HeadConfig) -> TrainConfig:
    return TrainConfig(
        steps=40,
        batch=2,
        restyle_share=0.5,
        crop_px=48,
        record_px=48,
        photos_per_visit=2,
        restyles_per_visit=1,
        learning_rate=5e-3,
        ema=0.9,
        model=small_model,
        head=dataclasses.replace(small_head, canvas_px=112),
    )


@pytest.fixture
def make(picture: Callable[..., Tensor], config: TrainConfig) -> Make:
    def build(**changes: object) -> Trainer:
        photos, paintings = [picture(1), picture(2)], [picture(3, 112, 128), picture(4, 112, 128)]
        trainer = Trainer(dataclasses.replace(config, **changes), photos=photos, paintings=paintings)  # type: ignore[arg-type]
        trainer.replenish(2)
        return trainer

    return build


def test_training_lowers_the_held_out_loss_of_the_averaged_weights(
    make: Make, picture: Callable[..., Tensor], config: TrainConfig
) -> None:
    trainer = make()
    held_out = validation_records([picture(8)], [picture(9, 112, 128)], config)
    before, _ = trainer.validate(held_out)
    for _ in range(40):
        trainer.step()
    after, outputs = trainer.validate(held_out)
    assert after["total"] < 0.97 * before["total"]
    assert outputs.shape == held_out.photo.shape


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_generator_and_discriminator_are_trained_in_turn(kind: str, make: Make) -> None:
    trainer = make(loss=LossConfig(adversarial=kind))
    before = {name: p.clone() for name, p in trainer.backbone.named_parameters()}
    terms = trainer.step()
    moved = {name for name, p in trainer.backbone.named_parameters() if not torch.equal(p, before[name])}
    assert any(name.startswith("generator") for name in moved)
    assert any(name.startswith("discriminator") for name in moved) == (kind != "none")
    assert ("critic" in terms) == (kind != "none")


def test_a_resumed_run_equals_an_uninterrupted_one(make: Make, tmp_path: Path) -> None:
    """Bit for bit, given the same pool."""
    whole = make()
    for _ in range(3):
        whole.step()
    whole.save(tmp_path / "c.safetensors")
    resumed = make()
    resumed.restore(tmp_path / "c.safetensors")
    assert (resumed.step_count, resumed.visit_count) == (3, 2)
    resumed.pool = whole.pool
    for trainer in (whole, resumed):
        for _ in range(2):
            trainer.step()
    assert torch.equal(split.flatten(whole.backbone), split.flatten(resumed.backbone))
    assert torch.equal(whole.averaged, resumed.averaged)


def test_a_checkpoint_of_another_configuration_is_refused(make: Make, tmp_path: Path) -> None:
    trainer = make()
    trainer.save(tmp_path / "c.safetensors")
    with pytest.raises(CompatibilityError):
        make(seed=3).restore(tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").write_bytes((tmp_path / "c.safetensors").read_bytes()[:-9])
    with pytest.raises(StorageError):
        trainer.restore(tmp_path / "c.safetensors")


def test_paintings_are_all_visited_before_any_is_visited_again(make: Make) -> None:
    trainer = make()
    seen: list[int] = []
    ids = [id(p) for p in trainer.paintings]
    import shared_model.training as module

    original = module.visit
    try:
        module.visit = lambda painting, *rest: seen.append(ids.index(id(painting))) or []  # type: ignore[func-returns-value, assignment]
        trainer.replenish(4)
    finally:
        module.visit = original
    assert sorted(seen[:2]) == sorted(seen[2:]) == [0, 1]


def test_training_can_start_from_given_weights(make: Make, config: TrainConfig) -> None:
    first = make()
    first.step()
    trainer = Trainer(config, photos=first.photos, paintings=first.paintings, start=first.averaged_backbone())
    assert torch.equal(split.flatten(trainer.backbone), first.averaged)


def test_a_run_that_diverges_stops_and_says_what_to_do(make: Make) -> None:
    trainer = make()
    with torch.no_grad():
        trainer.backbone.generator.leave.weight.fill_(torch.nan)
    with pytest.raises(EaselError, match="diverged at step 0") as caught:
        trainer.step()
    assert "learning_rate" in caught.value.hint and caught.value.exit_code == 1
