"""Attacks stay within their bound and are stronger than chance; the study adds them up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.head import Head
from shared_model.images import save_picture
from shared_model.pyramid import box
from shared_model.stylize import Options
from simulations.cli import main
from simulations.studies import robustness as study
from simulations.studies.attacks import Target, pgd, random_signs, search
from simulations.studies.robustness import Finding, attack, summary


def picture(seed: int, height: int = 48, width: int = 64) -> Tensor:
    rough = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return ((box(box(rough, 3), 2) * 4 - 1.5).clamp(0, 1) * 255).round() / 255


@pytest.fixture(scope="module", params=[0, 2], ids=["looked up", "laid in"])
def target(request: pytest.FixtureRequest) -> Target:
    backbone = Backbone(ModelConfig(width=8, blocks=1, code_dim=4, encoder_width=3, critic_width=4), seed=3).eval()
    config = HeadConfig(canvas_px=48, levels=2, patch=5, atoms=64, components=8, candidates=400, brush=request.param)
    return Target(Head.fit([picture(1)], backbone=backbone, config=config), backbone, Options(seed=2))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def change(target: Target, photo: Tensor, changed: Tensor) -> float:
    return float((target.paint(changed) - target.paint(photo)).abs().mean())


def is_allowed(photo: Tensor, changed: Tensor, epsilon: int) -> bool:
    levels = (changed * 255).round()
    on_levels = bool((changed * 255 - levels).abs().max() < 1e-3)
    near = float((changed - photo).abs().max() * 255) <= epsilon + 1e-3
    return on_levels and near and float(changed.min()) >= 0 and float(changed.max()) <= 1


def test_the_stand_in_has_the_value_of_the_painting_and_a_gradient(target: Target) -> None:
    photo = picture(2)
    for through in (False, True):
        moved = photo.clone().requires_grad_(True)
        made = target.stand_in(moved, through=through)
        assert float((made.detach().clamp(0, 1) - target.paint(photo)).abs().max()) < 1e-5
        (slope,) = torch.autograd.grad(made.sum(), moved)
        assert bool(slope.isfinite().all()) and float(slope.abs().mean()) > 0


@pytest.mark.parametrize("epsilon", [2, 4])
def test_every_attack_stays_within_its_bound(target: Target, epsilon: int) -> None:
    photo = picture(2)
    found = attack(photo, target, epsilon=epsilon, steps=3, trials=3, seed=0)
    assert set(found) == {"random", "pgd-fixed", "pgd-through", "search"} and len(found["random"]) == 3
    assert all(is_allowed(photo, changed, epsilon) for some in found.values() for changed in some)


def test_gradients_beat_chance(target: Target) -> None:
    photo = picture(2)
    chance = change(target, photo, random_signs(photo, epsilon=4, generator=seeded()))
    found = pgd(photo, target, epsilon=4, steps=8, through=True, generator=seeded())
    assert change(target, photo, found) > 1.3 * chance


def test_the_search_finds_what_each_place_reacts_to() -> None:
    """A painter that answers to upright stripes on the left and to level ones on the right only."""

    def paint(x: Tensor) -> Tensor:
        across = torch.nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1)).abs()
        down = torch.nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1)).abs()
        return torch.cat([across[..., :32], down[..., 32:]], -1)

    photo = torch.full((1, 3, 64, 64), 128 / 255)
    clean = paint(photo)
    chance = float((paint(random_signs(photo, epsilon=4, generator=seeded())) - clean).mean())
    found = search(photo, paint, epsilon=4, trials=40, generator=seeded(), block_px=16)
    assert float((paint(found) - clean).abs().mean()) > 1.15 * chance
    assert is_allowed(photo, found, 4)


def test_attacks_are_seeded(target: Target) -> None:
    photo = picture(2)
    runs = [search(photo, target.paint, epsilon=2, trials=2, generator=seeded(5)) for _ in range(2)]
    assert torch.equal(*runs)


def test_the_summary_compares_the_strongest_attack_with_chance() -> None:
    def finding(name: str, painting: float) -> Finding:
        return Finding("p", "h", name, 2, 0.01, 0.02, painting, 0.8, 0.9, 0.6, 0.7)

    row = summary([finding("random", 0.01), finding("search", 0.03), finding("random", 0.02), finding("pgd", 0.05)])[
        "2"
    ]
    assert (row["random"], row["attack"], row["attack_most"]) == pytest.approx((0.015, 0.04, 0.05))
    assert row["amplification"] == pytest.approx(0.04 / 0.015) and row["attack_gain"] == pytest.approx(4)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    score = {"content": 0.8, "headline": 0.7}
    monkeypatch.setattr(study, "shipped_targets", lambda names, options: {name: target for name in names})
    monkeypatch.setattr(study, "_painting", lambda name: None)
    monkeypatch.setattr(study, "score_pair", lambda output, photo, painting: score)


def test_the_study_as_a_user_runs_it(quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_picture(tmp_path / "photos" / "one.png", (picture(2, 64, 64)[0].permute(1, 2, 0) * 255).byte().numpy())
    arguments = ["--photos", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--heads", "x", "--px", "64"]
    assert main(["study", "robustness", *arguments, "--steps", "2", "--trials", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [(f["epsilon"], f["attack"] == "random") for f in facts["findings"]] == [
        (2, True), (2, False), (4, True), (4, False)
    ]  # fmt: skip
    assert facts["summary"]["4"]["attack"] >= facts["summary"]["4"]["random"] > 0
    assert json.loads((tmp_path / "out" / "robustness.json").read_text()) == facts
    assert (tmp_path / "out" / "robustness.png").is_file()


@pytest.mark.parametrize(
    "wrong", [["--epsilon", "0"], ["--epsilon", "200"], ["--steps", "0"], ["--px", "9"], ["--photos", "nowhere"]]
)
def test_mistakes_are_two_lines(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["study", "robustness", "--out", str(tmp_path / "out"), *wrong]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("error") and len(lines) <= 2 and not (tmp_path / "out").exists()


def test_a_head_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    make: Callable[..., object] = study.shipped_targets
    with pytest.raises(Exception, match="no head called"):
        make(["nobody"], Options())
    assert not capsys.readouterr().out
