"""What devices refuse in a secure round: a server that contradicts itself, less noise, too few of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message

from client.secure_state import Memory
from server.config import FederationConfig
from server.rounds import run
from server.secure import TOO_FEW
from server.state import StateStore
from shared_model.errors import Interrupted
from shared_model.secure_terms import SECURE
from shared_model.split import flatten
from simulations.grid import InProcessGrid
from tests.integration.secure.conftest import (
    BACKBONE,
    CLIP,
    Fleet,
    app,
    go,
    number,
)


def state_of(folder: Path) -> Any:
    return Memory(folder).load()


@pytest.fixture
def at_stage(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> Iterator[Callable[[str], tuple[Message, Context]]]:
    """Stop a round just before device 0 answers a stage; return the message and its context."""

    def stop(stage: str) -> tuple[Message, Context]:
        found: list[tuple[Message, Context]] = []

        def act(message: Message, context: Context, now: str) -> Message | None:
            if now == stage and number(context) == 0:
                found.append((message, context))
                raise KeyboardInterrupt
            return None

        with pytest.raises(Interrupted):
            go(Fleet(folders[:5], act), tmp_path / "run", config)
        return found[0]

    yield stop


@pytest.mark.parametrize(
    ("stage", "changes", "code"),
    [
        ("shares", {"holders": [0, 1]}, 103),
        ("shares", {"index": 9}, 103),
        ("masked", {"needed": 3}, 103),
        ("masked", {"sum_noise": 0.5}, 103),
        ("masked", {"sources": [1, 2, 3, 9]}, 103),
        ("masked", {"sources": [1, 1, 1, 1]}, 101),
        ("open", {"survivors": [0, 1, 2]}, 101),
        ("open", {"survivors": [1, 2, 3, 4]}, 101),
        ("open", {"attempt": "0123456789abcdef"}, 103),
        ("keys", {"stage": "other"}, 103),
        ("keys", {"needed": 2}, 103),
    ],
)
def test_a_device_does_not_follow_a_server_that_contradicts_itself(
    stage: str, changes: dict[str, Any], code: int, at_stage: Callable[[str], tuple[Message, Context]]
) -> None:
    message, context = at_stage(stage)
    message.content.config_records[SECURE].update(changes)
    reply = app(message, context)
    assert reply.error.code == code


def test_changed_or_doubled_keys_are_refused(at_stage: Callable[[str], tuple[Message, Context]]) -> None:
    message, context = at_stage("shares")
    values = message.content.config_records[SECURE]
    honest = list(values["mask_keys"])  # type: ignore[arg-type]
    for forged in ([honest[1], honest[1], *honest[2:]], [honest[0], honest[1], honest[1], *honest[3:]]):
        values["mask_keys"] = forged
        assert app(message, context).error.reason == "FederationError"
    values["mask_keys"] = honest
    assert not app(message, context).has_error()


def test_the_owner_can_insist_on_it(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    for folder in folders[:5]:
        (folder / "policy.toml").write_text(
            "require_secure_aggregation = true\nsimulation = true\nmin_noise_multiplier = 0.0\n"
        )
    assert go(Fleet(folders[:5]), tmp_path / "a", config).reports[0].accepted == 5
    grid = InProcessGrid(app, [{"device-dir": str(folder)} for folder in folders[:5]])
    in_the_clear = replace(config, secure_aggregation=False)
    state = run(grid, StateStore(tmp_path / "b"), config=in_the_clear, start=lambda: BACKBONE)
    assert state.reports[0].reasons == {"refused by policy": 5}


def test_a_real_device_refuses_a_secure_sum_with_less_noise_than_promised(
    tmp_path: Path, config: FederationConfig, folders: list[Path]
) -> None:
    real = replace(
        config,
        simulated_population=0,
        simulated_cohort=0,
        rescale_noise=False,
        unprotected=False,
        noise_multiplier=2.0,
        population=5,
        cohort=5,
        accept_loud_noise=True,
    )

    def act(message: Message, context: Context, now: str) -> Message | None:
        del context.node_config["partition-id"]  # a real device
        if now == "keys":
            message.content.config_records[SECURE]["sum_noise"] = 1.9 * CLIP
        return None

    fleet = Fleet(folders[:5], act)
    state = go(fleet, tmp_path / "run", real)
    assert state.reports[0].reasons == {"refused by policy": 5}
    assert not (folders[0] / "ledger.json").exists()


def test_too_few_devices_are_not_even_asked(tmp_path: Path, config: FederationConfig, folders: list[Path]) -> None:
    """A Poisson sample may be small: then the round is skipped, charged, and nobody trains."""
    from server.secure import secure_sum, secure_terms

    assert secure_terms(config, asked=3, std=0.0) is None
    found = secure_sum(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        [1, 2, 3],
        flatten(BACKBONE),
        terms=None,
        neighbors=0,
        limit_s=1.0,
        timing=None,  # type: ignore[arg-type]
    )
    assert (found.total.count, found.reasons) == (0, {TOO_FEW: 3})
