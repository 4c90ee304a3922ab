"""TensorBoard curves of rounds: complete after a kill, and no round twice."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from server.app import federate
from server.config import FederationConfig
from server.curves import FOLDER
from server.rounds import run
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import Interrupted
from simulations.grid import InProcessGrid

pytest.importorskip("tensorboard")


def drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(e.step, round(e.value, 4)) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_a_killed_run_is_drawn_completely_and_once(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: Callable,
    honest: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    longer = replace(config, rounds=4)
    monkeypatch.setattr("server.app.load_backbone", lambda path: backbone)
    asked: list[int] = []

    def act(message: object, index: int) -> object:
        asked.append(index)
        if len(asked) == 11:  # in round 3
            raise KeyboardInterrupt
        return honest(message, index)

    def go() -> None:
        federate(
            InProcessGrid(make_client(act), [{}] * 4),
            longer,
            run_dir=tmp_path,
            backbone=str(__file__),
            log=logging.getLogger("test"),
            curves=True,
        )

    with pytest.raises(Interrupted):
        go()
    state = StateStore(tmp_path).load()
    assert state is not None
    place = tmp_path / FOLDER / state.run
    assert [step for step, _ in drawn(place)["devices/accepted"]] == [1, 2]
    # A round that was saved and not drawn: the process died in between.
    with pytest.raises(RuntimeError):
        run(
            InProcessGrid(make_client(honest), [{}] * 4),
            StateStore(tmp_path),
            config=longer,
            start=lambda: backbone,
            on_round=lambda *_: (_ for _ in ()).throw(RuntimeError),
        )
    go()
    curves = drawn(place)
    assert curves["devices/accepted"] == [(1, 4.0), (2, 4.0), (3, 4.0), (4, 4.0)]
    state = StateStore(tmp_path).load()
    assert state is not None
    assert curves["privacy/epsilon"] == [(r.round, pytest.approx(r.epsilon, abs=1e-3)) for r in state.reports]
    assert len(list(place.iterdir())) == 1
