"""A server that is stopped in the middle of a secure round: one charge, one masked update, one sum."""

from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, Message

from client.ledger import Ledger
from server.config import FederationConfig
from server.state import StateStore
from shared_model.errors import Interrupted
from shared_model.secure_terms import STAGES
from tests.integration.secure.conftest import Fleet, app, go, number


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_in_any_stage_repeats_or_gives_up_the_round_under_its_one_charge(
    stage: str, tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    crashed: list[str] = []

    def act(message: Message, context: Context, now: str) -> Message | None:
        if now == stage and number(context) == 3 and not crashed:
            crashed.append(now)
            raise KeyboardInterrupt
        return None

    two = replace(config, rounds=2)
    fleet = Fleet(folders[:5], act)
    with pytest.raises(Interrupted, match="round 1 of 2"):
        go(fleet, tmp_path / "run", two)
    saved = StateStore(tmp_path / "run").load()
    assert saved is not None
    assert (saved.round, saved.reserved) == (0, 1)
    before = len(fleet.masked)
    state = go(fleet, tmp_path / "run", two)
    assert (state.round, state.reserved) == (2, 2)
    # No device ever masks two updates for one round, so no second sum of the same round can exist.
    for folder in folders[:5]:
        sent = [entry.round for entry in Ledger.open(folder / "ledger.json").entries() if entry.kind]
        assert len(sent) == len(set(sent))
    first, second = state.reports
    assert second.released
    if stage in ("keys", "shares"):
        assert (before, first.accepted) == (0, 5)
    else:
        assert not first.released
        assert first.reasons["answered before"] == before == (3 if stage == "masked" else 5)


def test_a_masked_update_is_never_repeated_and_never_opened_twice(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    heard: dict[str, Message] = {}

    def act(message: Message, context: Context, now: str) -> Message | None:
        if number(context) == 0:
            heard[now] = message
        return None

    fleet = Fleet(folders[:5], act)
    go(fleet, tmp_path / "run", config)
    context = fleet.grid._contexts[1001]
    for stage in STAGES:
        reply = app(heard[stage], context)
        assert reply.has_error(), stage
        assert reply.error.reason == "FederationError"
