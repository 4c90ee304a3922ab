from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from client.recipe import Recipe
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import save_picture
from shared_model.stylize import Options

OPTIONS = Options(strength=0.7, keep_color=True, detail=0.2, size_px=33, seed=5)


@pytest.fixture
def recipe(tiny_head: Head) -> Recipe:
    return Recipe.of(tiny_head, name="tiny", options=OPTIONS)


def test_settings_come_back(recipe: Recipe) -> None:
    assert Recipe.from_settings(recipe.to_settings()) == recipe


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_carries_its_recipe(recipe: Recipe, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    save_picture(path, np.zeros((4, 5, 3), np.uint8), settings=recipe.to_settings())
    assert Recipe.read(path) == recipe


def test_the_same_head_always_has_the_same_digest(tiny_head: Head) -> None:
    again = [Head.from_bytes(tiny_head.to_bytes()) for _ in range(12)]
    assert len({Recipe.of(head, name="tiny", options=OPTIONS).head_digest for head in again}) == 1


def test_another_head_of_the_same_name_is_noticed(recipe: Recipe, tiny_head: Head) -> None:
    other = Recipe.of(dataclasses.replace(tiny_head, images=9), name="tiny", options=OPTIONS)
    assert not recipe.same_painter(other)
    assert not recipe.same_painting(other)
    newer = dataclasses.replace(recipe, version="9.9")
    assert recipe.same_painting(newer)
    assert not recipe.same_painting(dataclasses.replace(recipe, options=Options()))


def test_picture_without_settings_cannot_be_replayed(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "plain.png", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match="no easel settings"):
        Recipe.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"format": None},
        {"options": None},
        {"options": {"strength": 2.0}},
        {"options": {"strength": "much"}},
        {"options": {"strengh": 0.5}},
        {"options": {"size_px": -3}},
        {"head": 5},
        {"head": "x" * 201},
        {"head": "a\nb"},
    ],
)
def test_changed_settings_are_refused_and_the_picture_named(
    recipe: Recipe, tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "x.png"
    save_picture(path, np.zeros((4, 5, 3), np.uint8), settings=recipe.to_settings() | change)
    with pytest.raises(InputError, match=r"x\.png"):
        Recipe.read(path)
