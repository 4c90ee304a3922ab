"""A launcher that follows a run: it says every round, and sees at once that a process was killed."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.config import FederationConfig
from server.events import EventLog
from server.launch import _follow
from server.places import SERVERAPP
from server.report import RoundReport
from server.rounds import begin
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.errors import FederationError
from shared_model.processes import mark


class Heard:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, Mapping[str, Any] | None]] = []

    def __call__(self, text: str, *, event: str = "note", facts: Mapping[str, Any] | None = None) -> None:
        self.lines.append((text, event, facts))


def link(folder: Path, *, status: str = "running", code: int | None = None) -> Any:
    process = SimpleNamespace(poll=lambda: code, returncode=code)
    return SimpleNamespace(
        process=process, folder=folder, status=lambda run: status, run_log=lambda run: "x\nValueError: no luck\n"
    )


@pytest.fixture
def store(tmp_path: Path, config: FederationConfig, backbone: Backbone) -> StateStore:
    state = begin(config, backbone)
    reports = tuple(RoundReport(round=number, asked=4, accepted=4, released=True) for number in (1, 2))
    store = StateStore(tmp_path)
    store.save(RoundState(**{**vars(state), "round": 2, "reserved": 2, "reports": reports}))
    return store


def test_a_killed_serverapp_is_seen_at_once(store: StateStore, config: FederationConfig) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark(store.folder / SERVERAPP, process.pid)
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    with pytest.raises(FederationError, match="ServerApp was killed"):
        _follow(link(store.folder), "1", store, config=config, say=Heard())


def test_a_dead_superlink_and_a_failed_run_are_errors_with_their_cause(
    store: StateStore, config: FederationConfig
) -> None:
    with pytest.raises(FederationError, match="SuperLink died"):
        _follow(link(store.folder, code=-9), "1", store, config=config, say=Heard())
    with pytest.raises(FederationError, match="no luck"):
        _follow(link(store.folder, status="finished:failed"), "1", store, config=config, say=Heard())


def test_rounds_are_said_with_their_numbers(
    store: StateStore, config: FederationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, whole = Heard(), store.load()
    assert whole is not None
    before = RoundState(**{**vars(whole), "round": 1, "reserved": 1, "reports": whole.reports[:1]})
    states = iter([before, whole])
    monkeypatch.setattr(store, "load", lambda: next(states, whole))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    _follow(link(store.folder, status="finished:completed"), "1", store, config=config, say=heard)
    assert [(event, facts["round"], facts["accepted"]) for _, event, facts in heard.lines if facts] == [("round", 2, 4)]


def test_rounds_that_nobody_was_told_of_are_told_first(store: StateStore, config: FederationConfig) -> None:
    state = store.load()
    assert state is not None
    log = EventLog(store.folder / "events.jsonl", clock=lambda: datetime(2026, 11, 24, tzinfo=UTC))
    assert log.rounds_told(state.run) is None
    log.write("round", {"run": "another", "round": 7})
    log.write("round", {"run": state.run, "round": 1})
    with (store.folder / "events.jsonl").open("a") as stream:
        stream.write('{"event": "round", "run"\n[]\n')
    assert log.rounds_told(state.run) == 1
    heard = Heard()
    ended = link(store.folder, status="finished:completed")
    _follow(ended, "1", store, config=config, say=heard, told=lambda state: log.rounds_told(state.run) or 0)
    assert [facts["round"] for _, _, facts in heard.lines if facts] == [2]


def test_the_last_round_is_told_although_it_ended_while_flower_was_asked(
    store: StateStore, config: FederationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, whole = Heard(), store.load()
    assert whole is not None
    before = RoundState(**{**vars(whole), "round": 1, "reserved": 2, "reports": whole.reports[:1]})
    states = iter([before, whole])
    monkeypatch.setattr(store, "load", lambda: next(states))
    ticks = iter([0.0, 100.0])
    monkeypatch.setattr("server.launch.time", SimpleNamespace(monotonic=lambda: next(ticks), sleep=None))
    _follow(link(store.folder, status="finished:completed"), "1", store, config=config, say=heard)
    assert [facts["round"] for _, _, facts in heard.lines if facts] == [2]
