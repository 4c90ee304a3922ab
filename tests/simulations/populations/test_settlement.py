"""Device folders of a population: records, personal tests, fresh devices for a run, pictures to look at."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from client.data import load_device, load_records
from shared_model.config import HeadConfig
from shared_model.errors import InputError, MissingError
from shared_model.images import load_picture, save_picture
from simulations.cli import main
from simulations.pictures import crops, default_photos
from simulations.populations import PopulationConfig, Settlement, read_settlement, settle
from simulations.populations import test_records as personal_test
from simulations.populations.built_in import tastes
from simulations.populations.config import ChurnConfig
from simulations.populations.light import LIGHTS, lit
from simulations.populations.sheet import write_population_sheet

HEAD = HeadConfig(canvas_px=64, atoms=32, candidates=64, levels=1)
CONFIG = PopulationConfig(
    devices=2, photos_each=2, art_each=1, test_photos=1, test_records=1, records=2, record_px=48, pictures_px=64,
    styles=2, held_photos=2, held_art=1, head=HEAD,
)  # fmt: skip


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Settlement:
    return settle(CONFIG, tmp_path_factory.mktemp("population") / "people")


def test_devices_have_records_and_a_test_of_other_pictures(built_in: Settlement) -> None:
    for device in built_in.devices:
        assert len(load_records(device)) == 2
        tested = personal_test(device)
        assert tested is not None and len(tested) == 1
        pictures = [path.read_bytes() for path in device.rglob("*.png")]
        assert len(pictures) == len(set(pictures)) == 5
    assert personal_test(built_in.folder / "nobody") is None


def test_what_is_held_out_is_there_and_nobodys(built_in: Settlement) -> None:
    held = [path.read_bytes() for path in (*built_in.held_photos, *built_in.held_art)]
    assert len(held) == 3
    owned = {path.read_bytes() for device in built_in.devices for path in device.rglob("*.png")}
    assert not owned & set(held)


def test_a_run_gets_fresh_devices_with_the_same_records(built_in: Settlement, tmp_path: Path) -> None:
    homes = built_in.visit(tmp_path / "devices", budget=math.inf, delta=1e-5)
    assert load_device(homes[1]).max_epsilon == math.inf
    for home, device in zip(homes, built_in.devices, strict=True):
        for mine, theirs in zip(load_records(home).tensors(), load_records(device).tensors(), strict=True):
            assert torch.equal(mine, theirs)
        mine_too, theirs_too = personal_test(home), personal_test(device)
        assert mine_too is not None and theirs_too is not None
        assert torch.equal(mine_too.photo, theirs_too.photo)
        assert not (home / "ledger.json").exists()


def test_a_second_call_only_reads_and_another_population_is_refused(built_in: Settlement) -> None:
    before = (built_in.folder / "population.json").stat().st_mtime_ns
    restless = dataclasses.replace(CONFIG, churn=ChurnConfig(slow_share=0.5))
    again = settle(restless, built_in.folder)
    assert again.shares == built_in.shares and again.config == restless
    assert read_settlement(built_in.folder) == built_in
    assert (built_in.folder / "population.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another population"):
        settle(dataclasses.replace(CONFIG, seed=1), built_in.folder)
    with pytest.raises(InputError, match="holds no population"):
        settle(CONFIG, built_in.folder / "0")
    with pytest.raises(MissingError):
        read_settlement(built_in.folder / "0")


def test_the_command_deals_folders_and_leaves_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = default_photos()
    for number, rgb in enumerate(crops(photos["astronaut"], 16, size=64, seed=1)):
        save_picture(tmp_path / "photos" / f"{number}.png", rgb)
    for number, rgb in enumerate(crops(photos["coffee"], 9, size=64, seed=2)):
        save_picture(tmp_path / "art" / ("ada", "bea", "cyd")[number % 3] / f"{number}.png", rgb)
    config = tmp_path / "people.toml"
    config.write_text(
        "[population]\ndevices = 2\nphotos_each = 2\nart_each = 1\nrecords = 1\nrecord_px = 48\ntest_records = 1\n"
        "test_photos = 1\n[population.head]\ncanvas_px = 64\natoms = 32\ncandidates = 64\nlevels = 1\n"
    )
    out = tmp_path / "out"
    options = ["--kind", "domain", "--photos", str(tmp_path / "photos"), "--art", str(tmp_path / "art")]
    assert main(["population", str(config), *options, "--out", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["devices"], facts["domains"], facts["own_tests"]) == (2, 2, 2)
    assert load_picture(out / "population.png").rgb.shape[0] > 200
    assert len((out / "devices.csv").read_text().splitlines()) == 3
    mean = [load_picture(next((out / f"people/{i}/photos").iterdir())).rgb.mean() for i in range(2)]
    assert mean[1] < mean[0]  # dusk
    assert main(["population", "--kind", "odd", "--out", str(tmp_path / "odd")]) == 2


def test_sheets_show_every_device(built_in: Settlement, tmp_path: Path) -> None:
    (sheet,) = write_population_sheet(built_in, tmp_path)
    rgb = load_picture(sheet).rgb
    assert rgb.shape[0] > 2 * 150 and rgb.std() > 20


def test_there_are_many_tastes_and_no_two_are_alike() -> None:
    many = tastes(150)
    assert len({(taste.painter, taste.palette, taste.stroke) for taste in many}) == 150
    assert tastes(3) == many[:3]


@pytest.mark.parametrize("light", LIGHTS)
def test_light_changes_a_photo_but_not_its_shape(light: str) -> None:
    rgb = default_photos()["chelsea"]
    changed = lit(rgb, light)
    assert changed.shape == rgb.shape and changed.dtype == np.uint8
    assert np.array_equal(changed, rgb) == (light == "day")
    assert np.array_equal(changed, lit(rgb, light))
