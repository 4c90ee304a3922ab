"""People: repeatable, each with one taste, and nothing held out is owned by anybody."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from shared_model.errors import InputError
from shared_model.images import load_picture, save_picture
from simulations.dealt_people import deal_population, hands
from simulations.painted_people import TASTES, paint_population
from simulations.population import Person, Population, name_of
from simulations.settings import DemoConfig

TINY = DemoConfig(devices=3, photos_each=2, art_each=2, pictures_px=64, heads=2, paintings=1, paint_px=64, records=4)


def quiet(*_: object) -> None:
    return None


def pixels(folder: Path, name: str) -> bytes:
    return load_picture(folder / name).rgb.tobytes()


def pictures_in(folder: Path, count: int, *, seed: int, names: list[str] | None = None) -> Path:
    """Write ``count`` different pictures with rising mean, so that they can be told apart."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        rgb = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        save_picture(folder / (names[number] if names else f"p{number:02d}.png"), rgb)
    return folder


def test_painted_people_are_the_same_for_the_same_seed_and_others_for_another(tmp_path: Path) -> None:
    one = paint_population(tmp_path / "a", config=TINY, follow=quiet)
    two = paint_population(tmp_path / "b", config=TINY, follow=quiet)
    three = paint_population(tmp_path / "c", config=dataclasses.replace(TINY, seed=1), follow=quiet)
    assert one == two
    names = [name for person in one.people for name in (*person.photos, *person.art)]
    assert len(names) == len(set(names)) == 12
    assert all(pixels(tmp_path / "a", name) == pixels(tmp_path / "b", name) for name in names)
    assert any(pixels(tmp_path / "a", name) != pixels(tmp_path / "c", name) for name in names)
    assert [person.style for person in three.people] == [taste.words for taste in TASTES[:3]]


def test_a_device_folder_has_pictures_and_settings_of_its_own(tmp_path: Path) -> None:
    population = paint_population(tmp_path, config=TINY, follow=quiet)
    settings = [tomllib.loads((tmp_path / f"devices/{i}/device.toml").read_text()) for i in range(3)]
    assert [item["seed"] for item in settings] == [0, 1, 2]
    assert all(item["records"] == 4 and item["photos"] == "photos" for item in settings)
    for person in population.people:
        assert {Path(name).parent for name in person.art} == {Path(f"devices/{person.id}/art")}
        assert min(load_picture(tmp_path / person.art[0]).rgb.shape[:2]) == 64
        assert len(person.palette) == 5


def test_a_population_survives_json() -> None:
    person = Person(0, "Ada", "oil", ("#000000",), ("p",), ("a", "b"))
    population = Population("built-in", "", (person,), (), ())
    assert Population.from_dict(json.loads(json.dumps(population.to_dict()))) == population


def test_names_never_repeat() -> None:
    assert len({name_of(index) for index in range(80)}) == 80


def test_hands_are_subfolders_or_first_words(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("monet_1.png", "monet-2.png", "klee.png", "x/a.png", "x/b.png")]
    found = hands(paths, tmp_path)
    assert [[path.name for path in hand] for hand in found] == [
        ["monet_1.png", "monet-2.png"],
        ["klee.png"],
        ["a.png", "b.png"],
    ]


def folders(tmp_path: Path, *, photos: int = 12) -> DemoConfig:
    names = ["monet_1.png", "monet_2.png", "klee_1.png", "klee_2.png", "dix_1.png", "ernst_1.png"]
    pictures_in(tmp_path / "photos", photos, seed=0)
    pictures_in(tmp_path / "art", len(names), seed=1, names=names)
    return dataclasses.replace(TINY, photos=str(tmp_path / "photos"), art=str(tmp_path / "art"))


def test_dealt_people_get_one_hand_each_and_nothing_held_out(tmp_path: Path) -> None:
    config = folders(tmp_path)
    run = tmp_path / "run"
    population = deal_population(run, config=config, follow=quiet, note=quiet)
    owned = {pixels(run, name) for person in population.people for name in (*person.photos, *person.art)}
    held_out = {pixels(run, item.file) for item in (*population.photos, *population.art)}
    assert len(population.people) == 3 and held_out and not owned & held_out
    assert len({person.style for person in population.people}) == 3
    assert deal_population(tmp_path / "again", config=config, follow=quiet, note=quiet) == population


@pytest.mark.parametrize("devices", [3, 4, 8])
def test_artworks_are_held_out_also_when_hands_are_few(tmp_path: Path, devices: int) -> None:
    config = dataclasses.replace(folders(tmp_path), devices=devices)
    population = deal_population(tmp_path / "run", config=config, follow=quiet, note=quiet)
    theirs = {pixels(tmp_path / "run", name) for person in population.people for name in person.art}
    judged = {pixels(tmp_path / "run", item.file) for item in population.art}
    assert not population.judged_owned and judged and not theirs & judged


def test_a_single_artwork_serves_everybody_and_that_is_said(tmp_path: Path) -> None:
    pictures_in(tmp_path / "photos", 6, seed=0)
    pictures_in(tmp_path / "art", 1, seed=1)
    config = dataclasses.replace(TINY, photos=str(tmp_path / "photos"), art=str(tmp_path / "art"))
    population = deal_population(tmp_path / "run", config=config, follow=quiet, note=quiet)
    assert population.judged_owned and len(population.art) == 1


def test_a_broken_picture_is_named_and_left_out(tmp_path: Path) -> None:
    config = folders(tmp_path)
    for name in ("photos/p03.png", "art/dix_1.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    notes: list[str] = []
    everyone = dataclasses.replace(config, devices=8, photos_each=3)
    population = deal_population(tmp_path / "run", config=everyone, follow=quiet, note=notes.append)
    assert any("dix_1.png" in note for note in notes) and any("p03.png" in note for note in notes)
    assert not any("dix" in person.style.lower() for person in population.people)
    assert all(len(person.photos) == 3 for person in population.people)


def test_too_few_or_no_pictures_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = folders(tmp_path, photos=2)
    with pytest.raises(InputError, match="has only 2 photos; 3 are needed"):
        deal_population(tmp_path / "run", config=config, follow=quiet, note=quiet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        deal_population(
            tmp_path / "run", config=dataclasses.replace(config, art=str(tmp_path / "empty")), follow=quiet, note=quiet
        )
    assert not (tmp_path / "run").exists()
