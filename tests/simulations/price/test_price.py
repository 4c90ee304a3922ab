"""A price-of-privacy study: its cells, its table, and a real one in small that is stopped and resumed."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from client.console import Console
from client.data import CACHE, load_device, load_records
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError, InputError, Interrupted
from shared_model.images import save_picture
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from shared_model.weights import save_backbone
from simulations.charts import Series, line_chart, side_by_side
from simulations.pictures import crops, default_photos
from simulations.populations.deal import Deal, deal
from simulations.populations.settlement import settle_all, visit
from simulations.populations.sources import folder_sources
from simulations.price.page import estimate, table
from simulations.price.settings import Cell, PriceConfig, load_price
from simulations.price.study import Study, run_study

TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)
FEDERATION = FederationConfig(rounds=1, population=10_000, local_steps=1, batch=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return folders of six photos and of works by three hands, and a file of splits."""
    home = tmp_path_factory.mktemp("pictures")
    photos = default_photos()
    for number, rgb in enumerate(crops(photos["astronaut"], 6, size=96, seed=1)):
        save_picture(home / "photos" / f"{number}.png", rgb)
    for hand in ("ada", "bea", "cyd"):
        for number, rgb in enumerate(crops(photos["coffee"], 2, size=96, seed=len(hand) + ord(hand[0]))):
            save_picture(home / "art" / hand / f"{number}.png", rgb)
    held = {"photos_val": ["photos/0.png", "photos/1.png"], "art_test": ["art/cyd/0.png", "art/cyd/1.png"]}
    (home / "splits.json").write_text(json.dumps(held))
    return home / "photos", home / "art", home / "splits.json"


@pytest.fixture
def config(tmp_path: Path) -> PriceConfig:
    save_backbone(tmp_path / "start.safetensors", Backbone(TINY))
    return PriceConfig(
        epsilons=(math.inf, 1.0),
        cohorts=(100,),
        repeats=2,
        devices=2,
        photos_each=2,
        art_each=1,
        pictures_px=96,
        records=1,
        record_px=48,
        held_records=2,
        pairs=0,
        paint_px=64,
        backbone=str(tmp_path / "start.safetensors"),
        federation=FEDERATION,
    )


def test_the_shipped_settings_span_what_the_table_needs() -> None:
    cells = load_price().cells()
    assert len(cells) == 39 and len({cell.name for cell in cells}) == 39
    assert {cell.epsilon for cell in cells} == {math.inf, 8.0, 4.0, 2.0, 1.0}
    assert {cell.cohort for cell in cells} == {0, 100, 1000, 10_000}


def test_a_cell_is_the_nominal_fleet_with_noise_scaled_to_the_devices(config: PriceConfig) -> None:
    federation = config.federation_of(Cell(1.0, 100, 1), noise_multiplier=0.7)
    assert (federation.cohort, federation.simulated_cohort, federation.noise_multiplier) == (100, 2, 0.7)
    assert federation.rescale_noise and not federation.unprotected and federation.seed == 1000
    assert config.federation_of(Cell(math.inf, 0, 0), noise_multiplier=0.0).unprotected


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilons": (0.0,)},
        {"epsilons": ()},
        {"epsilons": ("x",)},
        {"cohorts": (1,)},
        {"repeats": 0},
        {"federation": FederationConfig(unit="example", records=16, batch=4)},
    ],
)
def test_settings_out_of_range_are_refused(config: PriceConfig, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(config, **wrong)


def dealt_of(photos: Path, art: Path, splits: Path, *, config: PriceConfig) -> Deal:
    return deal(folder_sources([str(photos)], [str(art)], str(splits)), config.population)


def test_held_out_pictures_belong_to_nobody(folders: tuple[Path, Path, Path], config: PriceConfig) -> None:
    photos, art, splits = folders
    dealt = dealt_of(photos, art, splits, config=config)
    owned = {path.resolve() for group in (*dealt.photos, *dealt.art) for path in group}
    assert not owned & {path.resolve() for path in (*dealt.held_photos, *dealt.held_art)}
    assert [len(group) for group in dealt.photos] == [2, 2]
    assert {path.parent.name for group in dealt.art for path in group} == {"ada", "bea"}
    with pytest.raises(InputError, match="2 hands are left for 3"):
        dealt_of(photos, art, splits, config=dataclasses.replace(config, devices=3))
    with pytest.raises(ConfigError, match="photos_val"):
        dealt_of(photos, art, Path(config.backbone), config=config)


def test_devices_of_a_run_take_the_records_along(
    folders: tuple[Path, Path, Path], config: PriceConfig, tmp_path: Path
) -> None:
    photos, art, splits = folders
    dealt = dealt_of(photos, art, splits, config=config)
    people = settle_all(tmp_path / "people", dealt, config=config.population, follow=lambda fraction, text: None)
    homes = visit(people, tmp_path / "run", budget=2.0, delta=1e-5)
    before = (homes[0] / CACHE).stat().st_mtime_ns
    assert len(load_records(homes[0])) == 1
    assert (homes[0] / CACHE).stat().st_mtime_ns == before, "records were made anew"
    assert not (homes[0] / "ledger.json").exists() and load_device(homes[0]).max_epsilon == 2.0


def test_a_study_stopped_half_way_goes_on_and_says_what_it_found(
    folders: tuple[Path, Path, Path], config: PriceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, art, splits = folders
    train, trained = Study.train, []

    def stops(study: Study, cell: Cell) -> dict[str, Any]:
        if len(trained) == 1:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(cell.name)
        return train(study, cell)

    monkeypatch.setattr(Study, "train", stops)
    console = Console(json=True, out=io.StringIO(), err=io.StringIO())

    def go() -> dict[str, Any]:
        return run_study(
            config, tmp_path / "out", photos=[str(photos)], art=[str(art)], splits=str(splits), console=console
        )

    with pytest.raises(Interrupted):
        go()
    facts = go()
    assert len(trained) == 5 and len(set(trained)) == 5, "a finished run is not repeated"
    assert [(row["epsilon"], row["cohort"], row["runs"]) for row in facts["rows"]] == [(None, None, 2), (1.0, 100, 2)]
    table_text = (tmp_path / "out" / "price.md").read_text()
    assert "| none | any | 0 | 0 |" in table_text and "± " in table_text
    assert len((tmp_path / "out" / "price.csv").read_text().splitlines()) == 3
    assert (tmp_path / "out" / "price.svg").read_text().startswith("<svg xmlns")
    assert not list((tmp_path / "out" / "work").iterdir()), "devices of finished runs are removed"
    saved = json.loads((tmp_path / "out" / "cells" / "epsilon-1_cohort-100_repeat-0.json").read_text())
    spent = epsilon([(Mechanism(saved["noise_multiplier"], 0.01, "user"), 1)], delta=1e-5)
    assert saved["nominal_epsilon"] == pytest.approx(spent) and spent <= 1.0
    with pytest.raises(InputError, match="other digest"):
        config = dataclasses.replace(config, seed=5)
        go()


def test_intervals_are_students() -> None:
    assert math.isnan(estimate([1.0]).half) and math.isnan(estimate([]).mean)
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))


def test_repeats_of_a_cell_become_one_line() -> None:
    run = {"epsilon": None, "cohort": 0, "noise_multiplier": 0.0, "noise_over_clip": 0.0, "quality": None}
    lines = table({"loss": 2.0}, [{**run, "loss": 1.0}, {**run, "loss": 1.5}])
    assert len(lines) == 1 and lines[0].runs == 2 and lines[0].gain.mean == pytest.approx(0.75)


def test_charts_side_by_side_stand_alone() -> None:
    chart = line_chart([Series("a", (1.0, 2.0))], labels=["x", "y"], title="t")
    text = side_by_side([("one", chart), ("two & more", chart)], keys=["a"])
    assert text.count("<svg") == 3 and "two &amp; more" in text and "stroke:#2c4f93" in text
