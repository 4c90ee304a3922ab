"""Three small devices of very different taste with records and personal tests, and trials on copies of them."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.data import DeviceConfig, load_records, write_device
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.images import save_picture
from simulations.methods.alone import as_request
from simulations.methods.trial import Trial

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)
CELLS = ((10, 10), (2, 40), (40, 2))  # height and width of a mark: squares, lying strokes, standing strokes
BUDGET = math.inf


def _settle(folder: Path, index: int, *, seed: int, photos: int, budget: float) -> None:
    draw = np.random.default_rng(seed)
    for kind, count, cell in (("photos", photos, (10, 10)), ("art", 1, CELLS[index])):
        for number in range(count):
            coarse = draw.integers(0, 256, (-(-80 // cell[0]), -(-80 // cell[1]), 3))
            picture = np.kron(coarse, np.ones((*cell, 1)))[:80, :80]
            save_picture(folder / kind / f"{number}.png", picture.astype(np.uint8))
    head = HeadConfig(canvas_px=64, atoms=64, candidates=200)
    config = DeviceConfig(
        photos=Path("photos"), art=Path("art"), max_epsilon=budget, records=photos, size_px=48, seed=index, head=head
    )
    write_device(folder, config)
    load_records(folder)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("templates")
    for index in range(3):
        _settle(home / str(index), index, seed=index, photos=4, budget=BUDGET)
        _settle(home / str(index) / "test", index, seed=100 + index, photos=2, budget=BUDGET)
    return home


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here pulls the plug."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


MakeTrial = Callable[..., Trial]


@pytest.fixture
def make_trial(tmp_path: Path, templates: Path) -> MakeTrial:
    """Return a factory of trials on fresh devices: ``make_trial("name", mu=1.0, federation={"rounds": 3})``.

    Three devices, all of them in every round, no noise, no clip that cuts, and float16 uploads: everything is
    repeatable to the bit but the name of the run.
    """

    def make(name: str = "trial", *, federation: dict[str, object] | None = None, **options: object) -> Trial:
        home = tmp_path / name
        devices = tuple(Path(shutil.copytree(templates / str(i), home / "devices" / str(i))) for i in range(3))
        base = FederationConfig(
            rounds=2,
            population=3,
            cohort=3,
            unprotected=True,
            clip=10.0,
            local_steps=1,
            batch=1,
            min_nodes=3,
            quorum=1.0,
            upload="float16",
        )
        config = dataclasses.replace(base, **(federation or {}))
        return Trial(home, devices, config, Backbone(TINY, seed=1), options=options)

    return make


@pytest.fixture
def request_for() -> Callable[..., object]:
    """Return what a server would send to a trial's devices in a round."""

    def make(trial: Trial, round: int = 1, **changes: object) -> object:
        many = dataclasses.replace(trial.federation, rounds=99)
        return dataclasses.replace(as_request(many, trial.start, run="run", round=round, seed=0), **changes)

    return make


@pytest.fixture
def same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run have the same name, from which minibatches are drawn."""
    monkeypatch.setattr("simulations.engine.digest", lambda config: "the same settings")
