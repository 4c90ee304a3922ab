"""A run of ten rounds that dies once between any two things that it does ends like one that never died."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message
from flwr.clientapp import ClientApp

from server import rounds
from server.config import FederationConfig
from server.ledger import ServerLedger
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.messages import SETTINGS
from simulations.grid import InProcessGrid

ROUNDS = 10


class Killed(BaseException):
    """As sudden as kill -9, to everything that catches exceptions."""


class Fire:
    """Kills once at every point: (operation, rounds saved and charged, before it or after one of its replies)."""

    def __init__(self, folder: Path) -> None:
        self.points: set[tuple[Any, ...]] = set()
        self.on = True
        self._store = StateStore(folder)

    def at(self, name: str, when: str) -> None:
        state = self._store.load()
        where = (state.round, state.reserved) if state is not None else None
        if self.on and (name, where, when) not in self.points:
            self.points.add((name, where, when))
            raise Killed(name)

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.at(name, "before")  # which is after the operation before it
            return real(*arguments, **named)

        return wrapped


class Line(InProcessGrid):
    """A grid whose calls can be cut off."""

    fire: Fire

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self.fire.around("push", super().push_messages)(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Any:
        self.fire.at("pull", "before")
        for reply in super().pull_messages(message_ids):
            yield reply
            self.fire.at("pull", "after")

    def get_node_ids(self) -> Iterable[int]:
        return self.fire.around("nodes", super().get_node_ids)()


def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def test_killed_around_everything_it_does_a_run_ends_as_if_nothing_had_been(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: Callable[..., ClientApp],
    honest: Callable[[Message, int], Message],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = replace(
        config,
        rounds=ROUNDS,
        simulated_population=2,
        simulated_cohort=2,
        min_nodes=2,
        optimizer="fedadam",
        unprotected=True,
        noise_multiplier=0.0,
    )
    attempts: list[int] = []

    def act(message: Message, index: int) -> Message:
        attempts.append(int(message.content[SETTINGS]["attempt"]))
        return honest(message, index)

    def go(folder: Path, fire: Fire, told: list[int]) -> RoundState:
        grid = Line(make_client(act), [{}] * 2)
        grid.fire = fire
        return rounds.run(
            grid,
            StateStore(folder),
            config=small,
            start=lambda: backbone,
            on_round=lambda state, report: told.append(state.round),
            noise=no_noise,
        )

    calm = Fire(tmp_path / "calm")
    calm.on = False
    undisturbed = go(tmp_path / "calm", calm, [])
    attempts.clear()

    folder, told, deaths, state = tmp_path / "fire", list[int](), 0, None
    fire = Fire(folder)
    for cls, name in ((StateStore, "save"), (ServerLedger, "charge"), (ServerLedger, "finish")):
        monkeypatch.setattr(cls, name, fire.around(name, getattr(cls, name)))
    while state is None:
        try:
            state = go(folder, fire, told)
        except Killed:
            deaths += 1
            saved, account = StateStore(folder).load(), ServerLedger(folder).load()
            if saved is not None:
                run = saved.run
                assert max(account.rounds(run), saved.charged) >= max(saved.round, len(set(told)))
    assert deaths == len(fire.points) >= ROUNDS * 7
    assert torch.equal(state.backbone, undisturbed.backbone)
    assert all(torch.equal(state.moments[name], value) for name, value in undisturbed.moments.items())
    assert told == sorted(set(told)), "no round is told of twice"
    calmed, burnt = ([replace(report, seconds=0.0) for report in found.reports] for found in (undisturbed, state))
    assert burnt == calmed
    account = ServerLedger(folder).load()
    assert account.rounds(state.run) == state.charged == ROUNDS
    charged = [charge.attempt for charge in account.charges]
    assert charged == sorted(set(charged)) and set(attempts) <= set(charged), "whatever was asked was charged before"
    assert sorted(set(attempts)) == list(dict.fromkeys(attempts)), "attempts only grow"
