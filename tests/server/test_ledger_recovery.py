"""The server's ledger: charged before it is sent, and never less than the state says, or the other way round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from server.config import FederationConfig
from server.ledger import FILE, Account, Charge, ServerLedger
from server.rounds import run
from server.state import RoundState, StateStore
from server.status import facts, show
from shared_model.backbone import Backbone
from shared_model.errors import LedgerError, PrivacyError
from shared_model.messages import NOTICE, REPLY
from simulations.grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[2]
MakeClient = Callable[..., ClientApp]


def federate(folder: Path, config: FederationConfig, client: ClientApp, start: Backbone) -> RoundState:
    return run(InProcessGrid(client, [{}] * 4), StateStore(folder), config=config, start=lambda: start)


def test_every_round_is_charged_before_a_device_is_asked(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    seen: list[list[str]] = []

    def act(message: Message, index: int) -> Message:
        seen.append([charge.state for charge in ServerLedger(tmp_path).load().charges])
        return honest(message, index)

    state = federate(tmp_path, config, make_client(act), backbone)
    assert seen == [["charged"]] * 4 + [["released", "charged"]] * 4
    account = ServerLedger(tmp_path).load()
    assert [(charge.round, charge.attempt, charge.state) for charge in account.charges] == [
        (1, 1, "released"),
        (2, 2, "released"),
    ]
    assert account.rounds(state.run) == 2 == state.charged
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    found = facts(tmp_path)["ledger"]
    assert (found["rounds_charged"], found["attempts"]) == (2, 2)
    assert found["epsilon_all_runs"] == pytest.approx(state.reports[-1].epsilon)
    assert "ledger: 2 rounds of this run charged in 2 attempts" in show(tmp_path, as_json=False)


def test_an_older_state_goes_on_under_the_larger_charge_and_not_beyond_what_is_paid(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    store = StateStore(tmp_path)
    longer = replace(config, rounds=4)
    backups: dict[int, bytes] = {}

    def keep(state: RoundState, report: object) -> None:
        backups[state.round] = store.path.read_bytes()

    def go() -> RoundState:
        grid = InProcessGrid(fake_client, [{}] * 4)
        return run(grid, store, config=longer, start=lambda: backbone, on_round=keep)

    full = go().reports[-1].epsilon
    store.path.write_bytes(backups[1])
    with pytest.raises(PrivacyError, match="privacy of all 4 rounds is spent") as caught:
        go()
    assert caught.value.exit_code == 6
    state = store.load()
    assert (state.round, state.charged, state.attempt) == (1, 4, 4)
    assert facts(tmp_path)["privacy"]["epsilon"] == full
    assert "3 of them before an older state was put back" in show(tmp_path, as_json=False)


def test_a_removed_or_older_ledger_does_not_unspend_either(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    state = federate(tmp_path, config, fake_client, backbone)
    (tmp_path / FILE).unlink()
    federate(tmp_path, config, fake_client, backbone)
    account = ServerLedger(tmp_path).load()
    assert account.rounds(state.run) == 2
    assert account.charges[0].rounds == 2


def test_a_new_run_in_the_folder_is_added_to_the_old_one(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    first = federate(tmp_path, config, fake_client, backbone)
    StateStore(tmp_path).path.unlink()
    second = federate(tmp_path, config, fake_client, backbone)
    found = facts(tmp_path)["ledger"]
    assert found["runs"] == [first.run, second.run]
    assert found["epsilon_all_runs"] > second.reports[-1].epsilon
    assert "all 2 runs in this folder" in show(tmp_path, as_json=False)


def test_a_device_whose_ledger_went_back_is_dropped_and_told(
    tmp_path: Path, config: FederationConfig, backbone: Backbone, make_client: MakeClient, honest: Callable
) -> None:
    notices: list[tuple[int, int]] = []

    def act(message: Message, index: int) -> Message:
        notice = message.content.get(NOTICE)
        notices.append((index, notice["seen"] if notice is not None else 0))
        reply = honest(message, index)
        if index == 2:
            reply.content[REPLY]["entry"] = 1  # restored before every round
        return reply

    state = federate(tmp_path, replace(config, rounds=3), make_client(act), backbone)
    assert [report.reasons for report in state.reports] == [{}, *[{"its ledger went back": 1}] * 2]
    assert notices[4:8] == [(index, 1) for index in range(4)]
    assert notices[8:] == [(0, 2), (1, 2), (2, 1), (3, 2)]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"format": "easel-ledger", "version": 2}'])
def test_malformed_and_foreign_ledgers_are_refused(
    content: bytes, tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp
) -> None:
    federate(tmp_path, config, fake_client, backbone)
    good = (tmp_path / FILE).read_bytes()
    for bad in (content, good[:-30], good.replace(b'"round": 2', b'"round": 1')):
        (tmp_path / FILE).write_bytes(bad)
        with pytest.raises(LedgerError) as caught:
            federate(tmp_path, config, fake_client, backbone)
        assert caught.value.hint and "\n" not in caught.value.message


@given(st.binary(max_size=200), st.integers(0, 10**6), st.integers(0, 255))
def test_no_bytes_crash_the_parser(junk: bytes, position: int, byte: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = ServerLedger(folder)
        account = Account((Charge("ab", 1, 1, "user", 1.0, 0.1, 1),), {"ab": {"x": 3}}, {"ab": {"1001": "x"}})
        ledger._save(account)
        data = bytearray(ledger.path.read_bytes())
        data[position % len(data)] = byte
        for content in (bytes(data), junk):
            ledger.path.write_bytes(content)
            try:
                assert ledger.load() == account
            except LedgerError as error:
                assert "\n" not in error.message


KILLS = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict, Message
from flwr.clientapp import ClientApp
from server import rounds
from server.config import FederationConfig
from server.ledger import ServerLedger
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.messages import ARRAY, PROTOCOL, REPLY, SETTINGS
from simulations.grid import InProcessGrid

torch.set_num_threads(1)
folder = Path(sys.argv[1])
config = FederationConfig(**json.loads(sys.argv[2]))
backbone = Backbone(ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=3, critic_width=4))
client, log = ClientApp(), [None]

@client.train()
def train(message, context):
    settings = message.content[SETTINGS]
    with log[0].open("a") as note:
        note.write(f"asked {settings['attempt']} {settings['round']}\\n")
    size = message.content[ARRAY][ARRAY].shape[0]
    values = {"protocol": PROTOCOL, "run": settings["run"], "round": settings["round"], "scale": 0.001,
              "ledger": "0" * 16, "entry": settings["attempt"]}
    array = Array(torch.ones(size, dtype=torch.int8).numpy())
    return Message(RecordDict({ARRAY: ArrayRecord({ARRAY: array}), REPLY: ConfigRecord(values)}), reply_to=message)

def released(state, report):
    with log[0].open("a") as note:
        note.write(f"released {state.attempt} {state.round}\\n")

def go(path):
    grid = InProcessGrid(client, [{}])
    return rounds.run(grid, StateStore(path), config=config, start=lambda: backbone, on_round=released)

def die_at(call):
    left = [call]
    def wrap(real):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return wrapped
    for name in ("open", "fsync", "replace", "close", "fdopen", "fchmod"):
        setattr(os, name, wrap(getattr(os, name)))

log[0] = folder / "warm"
go(folder / "warm up")
deaths = 0
for call in range(1, 400):
    path, log[0] = folder / str(call), folder / f"log{call}"
    child = os.fork()
    if child == 0:
        die_at(call)
        go(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    before = StateStore(path).load()
    state = go(path)
    account = ServerLedger(path).load()
    lines = [line.split() for line in log[0].read_text().splitlines()]
    asked = [int(attempt) for word, attempt, _ in lines if word == "asked"]
    assert len(set(asked)) == len(asked) and asked == sorted(asked), (call, asked)
    told = [int(number) for word, _, number in lines if word == "released"]
    assert state.round == config.rounds and told == sorted(set(told)), (call, told)
    assert account.rounds(state.run) == state.charged == config.rounds, (call, account.charges, state.charged)
    if before is not None:
        assert before.run == state.run
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    deaths += 1
print(deaths)
"""


@pytest.mark.slow
def test_killed_between_any_two_writes_charge_and_attempts_stay_right(tmp_path: Path, config: FederationConfig) -> None:
    small = replace(config, simulated_population=1, simulated_cohort=1, min_nodes=1)
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), json.dumps(small.__dict__)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 40
