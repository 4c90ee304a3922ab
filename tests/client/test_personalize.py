from __future__ import annotations

import datetime
import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from client import personalize as personalize_module
from client.personalize import Patience, load_pictures, personalize, stop_on_interrupt
from shared_model.backbone import Backbone
from shared_model.config import STROKES, HeadConfig
from shared_model.errors import InputError, PictureError
from shared_model.head import Head
from shared_model.images import save_picture, to_tensor

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, 123, tzinfo=datetime.UTC)


def style(seed: int = 0) -> Tensor:
    return to_tensor(np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8))


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch, tiny_head: Head) -> None:
    """Replace the one-second fit, which has its own tests."""

    def fit(styles: Sequence[Tensor], *, name: str, created: str, **_: object) -> Head:
        return Head(**{**vars(tiny_head), "name": name, "created": created, "images": len(styles)})

    monkeypatch.setattr(Head, "fit", fit)


@pytest.fixture
def slow_tune(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace tuning by a loop that looks at its clock; returns the losses it reports."""
    losses = [0.9, 0.5, 0.7]

    def tune(
        head: Head, styles: object, *, budget_s: float, clock: Callable[[], float], progress: Any, **_: object
    ) -> Head:
        begin = clock()
        for step in range(1_000_000):
            progress(min(1.0, (clock() - begin) / budget_s), losses[min(step, 2)])
            if clock() - begin >= budget_s:
                return head
        raise AssertionError("the clock never ran out")

    monkeypatch.setattr(personalize_module, "tune", tune)
    return losses


def ticking() -> Callable[[], float]:
    state = {"now": 0.0}

    def clock() -> float:
        state["now"] += 0.5
        return state["now"]

    return clock


def test_fit_only(backbone: Backbone, quick_fit: None) -> None:
    made = personalize([style(), style(1)], backbone=backbone, name="mine", budget_s=0, now=lambda: NOON)
    assert (made.head.name, made.head.images, made.head.created) == ("mine", 2, "2024-05-06T12:00:00+00:00")
    assert math.isnan(made.before) and math.isnan(made.after) and not made.stopped


def test_strokes_choose_the_kind_of_head(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[HeadConfig | None] = []

    def fit(styles: list[Tensor], *, config: HeadConfig | None = None, **others: Any) -> Head:
        asked.append(config)
        return real(styles, config=HeadConfig(canvas_px=64, atoms=16, candidates=64), **others)

    real = Head.fit
    monkeypatch.setattr(Head, "fit", staticmethod(fit))
    for strokes in ("fine", "broad", "flat"):
        personalize([style()], backbone=backbone, name="mine", budget_s=0, strokes=strokes)
    assert asked == [HeadConfig(), STROKES["broad"], STROKES["flat"]] and len(set(asked)) == 3


def test_reports_loss_and_time(backbone: Backbone, quick_fit: None, slow_tune: list[float]) -> None:
    seen: list[tuple[float, float]] = []
    made = personalize(
        [style()],
        backbone=backbone,
        name="mine",
        budget_s=5,
        patience=Patience(clock=ticking()),
        progress=lambda fraction, loss: seen.append((fraction, loss)),
    )
    assert (made.before, made.after, made.stopped) == (0.9, 0.7, False)
    assert made.seconds > 5
    assert seen[0][0] < seen[-1][0] <= 1.0


def test_stopping_early_keeps_the_best_so_far(backbone: Backbone, quick_fit: None, slow_tune: list[float]) -> None:
    patience = Patience(clock=ticking())
    made = personalize(
        [style()],
        backbone=backbone,
        name="mine",
        budget_s=86400,
        patience=patience,
        progress=lambda fraction, loss: patience.stop(),
    )
    assert made.stopped and made.head.name == "mine" and made.before == 0.9
    assert made.seconds < 10


def test_interrupt_stops_gently_once_and_hard_twice() -> None:
    patience = Patience()
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt(patience):
        os.kill(os.getpid(), signal.SIGINT)
        assert patience.stopped
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("budget", [-1, 1e9, math.nan, math.inf])
def test_budget_out_of_range(backbone: Backbone, budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        personalize([style()], backbone=backbone, name="mine", budget_s=budget)


def test_no_pictures(backbone: Backbone) -> None:
    with pytest.raises(InputError):
        personalize([], backbone=backbone, name="mine", budget_s=0)


def test_bad_pictures_are_told_and_left_out(tmp_path: Path) -> None:
    good = save_picture(tmp_path / "good.png", np.zeros((40, 40, 3), np.uint8))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    told: list[PictureError] = []
    pictures, read = load_pictures([bad, good], limit=9, warn=told.append)
    assert read == [good] and len(pictures) == 1 and pictures[0].shape == (1, 3, 512, 512)
    assert ["bad.png" in error.message for error in told] == [True]
    with pytest.raises(PictureError, match=r"bad\.png"):
        load_pictures([bad], limit=9, warn=told.append)


def test_many_pictures_are_thinned_evenly(tmp_path: Path) -> None:
    paths = [save_picture(tmp_path / f"{i}.png", np.zeros((8, 8, 3), np.uint8)) for i in range(9)]
    _, read = load_pictures(paths, limit=3, warn=lambda error: None)
    assert read == [paths[0], paths[3], paths[6]]
