"""Evaluation: the right things are compared, on the right pairs, within the time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from client import evaluation
from client.evaluation import Change, distances, evaluate, unseen
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, InputError
from shared_model.head import Head
from shared_model.provenance import forget
from shared_model.stylize import stylize


def picture(seed: int, height: int = 48, width: int = 64) -> Tensor:
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture
def tuned(tiny_head: Head, backbone: Backbone) -> Head:
    return replace(tiny_head, change=torch.full((sum(p.numel() for p in backbone.generator.parameters()),), 0.1).half())


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Replace the two-second score by a made-up one; returns what was scored."""
    calls: list[tuple[bytes, bytes]] = []

    def score(output: np.ndarray, photo: np.ndarray, painting: np.ndarray) -> dict[str, float]:
        calls.append((photo.tobytes(), painting.tobytes()))
        value = float(output.mean()) / 255
        return {"headline": value, "content": value, "identifiability": 5.0 if len(calls) % 9 else 1.0}

    monkeypatch.setattr(evaluation, "score_pair", score)
    monkeypatch.setattr(evaluation.Painting, "of", staticmethod(lambda pixels: pixels))
    return calls


def still() -> float:
    return 0.0


def test_before_and_after_are_what_the_head_paints_without_and_with_its_tuning(
    tuned: Head, backbone: Backbone, scored: list[object]
) -> None:
    photo = picture(1)
    made = evaluate(tuned, [photo], [picture(2)], backbone=backbone, clock=still)
    versions = made.pairs[0].versions
    assert made.ways == ("draft", "untuned", "tuned")
    assert torch.equal(versions["draft"], tuned.draft(photo).painted)
    assert torch.equal(versions["tuned"], stylize(photo, head=tuned, backbone=backbone))
    before = replace(tuned, change=None)
    assert torch.equal(versions["untuned"], stylize(photo, head=before, backbone=backbone))
    assert not torch.equal(versions["untuned"], versions["tuned"])


def test_all_pairs_are_judged_each_once(tuned: Head, backbone: Backbone, scored: list[tuple[bytes, bytes]]) -> None:
    made = evaluate(tuned, [picture(i) for i in range(3)], [picture(8), picture(9)], backbone=backbone, clock=still)
    assert len(made.pairs) == made.planned == 6 == len({(p.photo, p.art) for p in made.pairs})
    assert len(set(scored)) == 6 and len(scored) == 18
    assert [pair.photo for pair in made.pairs[:3]] == [0, 1, 2] and {p.art for p in made.pairs[:3]} == {0, 1}
    left_out = [pair for pair in made.pairs if not pair.telling]
    assert len(left_out) == 2 and len(made.counted) == 4
    assert made.mean("tuned", "headline") == pytest.approx(
        np.mean([p.scores["tuned"]["headline"] for p in made.counted])
    )


def test_the_change_is_paired(tuned: Head, backbone: Backbone, scored: list[object]) -> None:
    made = evaluate(tuned, [picture(i) for i in range(4)], [picture(9)], backbone=backbone, clock=still)
    change = made.change("headline", before="untuned", after="tuned")
    differences = [p.scores["tuned"]["headline"] - p.scores["untuned"]["headline"] for p in made.counted]
    assert change.mean == pytest.approx(np.mean(differences)) and change.count == len(differences)
    rounding = 1e-12  # a mean of three equal numbers need not be that number
    assert min(differences) - rounding <= change.low <= change.mean <= change.high <= max(differences) + rounding


@pytest.mark.parametrize(
    ("change", "clear"),
    [(Change(0.1, 0.05, 0.2, 9), True), (Change(0.1, -0.05, 0.2, 9), False), (Change(0.1, 0.1, 0.1, 1), False)],
)
def test_a_change_is_clear_only_when_its_interval_excludes_zero_and_means_something(
    change: Change, clear: bool
) -> None:
    assert change.clear is clear


def test_time_ends_it_but_one_pair_is_always_judged(tuned: Head, backbone: Backbone, scored: list[object]) -> None:
    photos = [picture(i) for i in range(9)]
    seconds = itertools.count(0, 4).__next__
    made = evaluate(tuned, photos, [picture(9)], backbone=backbone, budget_s=30, clock=lambda: float(seconds()))
    assert 3 <= len(made.pairs) <= 7 and made.planned == 9
    late = itertools.count(0, 1000).__next__
    made = evaluate(tuned, photos, [picture(9)], backbone=backbone, budget_s=30, clock=lambda: float(late()))
    assert len(made.pairs) == 1


def test_without_pictures_content_and_memory_are_compared(tuned: Head, backbone: Backbone) -> None:
    made = evaluate(tuned, [picture(1), picture(2)], [], backbone=backbone, clock=still)
    assert [pair.art for pair in made.pairs] == [None, None]
    assert {"content", "color_distance", "contrast_distance"} <= set(made.pairs[0].scores["tuned"])
    assert made.counted == made.pairs


def test_a_head_that_remembers_no_numbers_has_no_before(tiny_head: Head, backbone: Backbone) -> None:
    assert evaluate(tiny_head, [picture(1)], [], backbone=backbone, clock=still).ways == ("draft", "tuned")


def test_distances_are_zero_for_the_heads_own_picture_and_grow(tiny_head: Head) -> None:
    style = picture(5)
    head = Head.fit([style], config=tiny_head.config)
    own, paler = distances(style, head), distances(0.5 + 0.5 * (style - 0.5), head)
    assert own["color_distance"] < 1e-3 and own["contrast_distance"] < 1e-3
    assert paler["contrast_distance"] == pytest.approx(1, abs=0.1)  # half the contrast is one octave
    assert paler["color_distance"] > 0.05
    moved = distances(style * 0.8 + 0.2, head)["color_distance"]
    assert moved == pytest.approx(float(((style * 0.8 + 0.2 - style).mean((2, 3)).square().sum()).sqrt()), rel=0.3)


def test_pictures_of_the_head_are_found_whatever_their_size(tiny_head: Head) -> None:
    styles = [picture(5), picture(6)]
    head = Head.fit(styles, config=tiny_head.config)
    grown = torch.nn.functional.interpolate(styles[1], scale_factor=3, mode="bicubic").clamp(0, 1)
    assert unseen(head, [picture(7), grown, styles[0], picture(8)]) == [0, 3]
    assert unseen(forget(head), styles) == [0, 1], "a head without small copies cannot tell"


def test_mistakes_are_errors(tuned: Head, backbone: Backbone) -> None:
    with pytest.raises(InputError, match="photo"):
        evaluate(tuned, [], [], backbone=backbone, clock=still)
    for budget in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(InputError, match="budget"):
            evaluate(tuned, [picture(1)], [], backbone=backbone, budget_s=budget, clock=still)
    with pytest.raises(CompatibilityError):
        evaluate(replace(tuned, backbone="0" * 12), [picture(1)], [], backbone=backbone, clock=still)
