"""Devices that contradict each other: one network cannot please both, networks of their own can."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch

from client import data
from client.data import CACHE, load_device, load_records
from shared_model.images import find_pictures
from simulations.methods import find
from simulations.methods.personal import measure
from simulations.methods.trial import Trial

MakeTrial = Callable[..., Trial]
LIGHT = (0.0, 0.2)  # the same picture is to stay as it is, or to be brighter


@pytest.fixture
def contradicting(make_trial: MakeTrial) -> MakeTrial:
    """Return a factory of trials whose two devices have the same pictures and want something else of them."""

    def make(name: str, **options: object) -> Trial:
        few = {"rounds": 3, "local_steps": 8, "learning_rate": 3e-3, "adversarial": "none"}
        trial = make_trial(name, federation={**few, "population": 2, "cohort": 2, "min_nodes": 2}, **options)
        for part in ("", "test"):
            same = load_records(trial.devices[0] / part).select([0])
            soft = 0.25 + 0.5 * same.draft
            for light, device in zip(LIGHT, trial.devices[:2], strict=True):
                wanted = dataclasses.replace(same, colored=soft, draft=soft, real=soft + light, restyle=torch.ones(1))
                _give(device / part, wanted)
        return dataclasses.replace(trial, devices=trial.devices[:2])

    return make


def _give(home: Path, records: data.Batch) -> None:
    """Put other records in the place of a device's own."""
    config = load_device(home)
    wanted = data._digest(config, find_pictures([config.photos]), find_pictures([config.art]))
    data._write(home / CACHE, records, wanted)


def reached(trial: Trial, name: str) -> float:
    method = find(name)
    method.train(trial, on_round=lambda moment: None)
    return fmean(measure(trial, method, device) for device in range(2))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedper", {}),
        pytest.param("apfl", {"alpha": 0.7}, marks=pytest.mark.slow),
        pytest.param("ditto", {"lam": 1.0}, marks=pytest.mark.slow),
        pytest.param("fedrep", {}, marks=pytest.mark.slow),
        pytest.param("local", {}, marks=pytest.mark.slow),
    ],
)
def test_personal_methods_paint_better_than_one_network_for_all(
    name: str, options: dict[str, float], contradicting: MakeTrial
) -> None:
    common = reached(contradicting("common"), "fedavg")
    own = reached(contradicting("own", **options), name)
    assert own < 0.8 * common, (own, common)
