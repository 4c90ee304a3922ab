"""The one file: round trip, atomic, damaged, foreign, locked."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.config import FederationConfig
from server.report import RoundReport
from server.rounds import begin
from server.state import RoundState, StateStore
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, FederationError, StorageError


@pytest.fixture
def state(config: FederationConfig, backbone: Backbone) -> RoundState:
    report = RoundReport(1, asked=4, accepted=3, reasons={"late": 1}, released=True, epsilon=0.5, run_epsilon=None)
    fedadam = replace(config, optimizer="fedadam")
    return replace(
        begin(fedadam, backbone),
        round=1,
        reserved=2,
        reports=(report,),
        clip=0.1 + 0.2,
        noise_keys=(bytes(range(32)),),
        asked={2**63: 1, 5: 1},
    )


def test_round_trip(tmp_path: Path, state: RoundState, config: FederationConfig) -> None:
    store = StateStore(tmp_path / "run")
    assert store.load() is None
    store.save(state)
    loaded = store.load()
    assert torch.equal(loaded.backbone, state.backbone)
    assert loaded.moments.keys() == {"first", "second"}
    assert torch.equal(loaded.moments["second"], state.moments["second"])
    assert loaded.reports == state.reports
    assert (loaded.run, loaded.round, loaded.reserved) == (state.run, 1, 2)
    assert (loaded.clip, loaded.noise_keys, loaded.asked) == (state.clip, state.noise_keys, state.asked)
    assert loaded.model == state.model
    assert loaded.noise_multiplier == state.noise_multiplier
    loaded.check_config(replace(config, optimizer="fedadam"))
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("position", [3, 200, -5])
def test_one_flipped_bit_is_noticed(tmp_path: Path, state: RoundState, position: int) -> None:
    store = StateStore(tmp_path)
    store.save(state)
    data = bytearray(store.path.read_bytes())
    data[position] ^= 1
    store.path.write_bytes(bytes(data))
    with pytest.raises((StorageError, CompatibilityError)):
        store.load()


def test_truncated_and_empty_files_are_damaged(tmp_path: Path, state: RoundState) -> None:
    store = StateStore(tmp_path)
    store.save(state)
    data = store.path.read_bytes()
    for part in (data[: len(data) // 2], data[:4], b""):
        store.path.write_bytes(part)
        with pytest.raises(StorageError, match="damaged"):
            store.load()


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    save_file({"x": torch.ones(2)}, store.path)
    with pytest.raises(CompatibilityError, match="not a round state"):
        store.load()


def test_other_format_is_refused(tmp_path: Path, state: RoundState) -> None:
    from safetensors.torch import save

    from server import state as module

    store = StateStore(tmp_path)
    header = json.dumps({"format": "easel-round-state-99"})
    tensors = {"backbone": torch.ones(2)}
    metadata = {"easel": header, "sha256": module._checksum(tensors, header)}
    store.path.write_bytes(save(tensors, metadata=metadata))
    with pytest.raises(CompatibilityError, match="99"):
        store.load()


def test_failed_save_leaves_the_old_state(tmp_path: Path, state: RoundState, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore(tmp_path)
    store.save(state)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="No space left"):
        store.save(replace(state, round=2))
    assert store.load().round == 1
    assert list(tmp_path.iterdir()) == [store.path]


def test_second_server_is_kept_out(tmp_path: Path) -> None:
    with (
        StateStore(tmp_path).lock(),
        pytest.raises(FederationError, match="another server"),
        StateStore(tmp_path).lock(),
    ):
        pytest.fail("entered")
    with StateStore(tmp_path).lock():
        pass


def test_leftover_of_a_crash_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".state.safetensors.abc.tmp"
    leftover.write_bytes(b"half a file")
    with StateStore(tmp_path).lock():
        assert not leftover.exists()


def test_charging_twice_changes_nothing(state: RoundState) -> None:
    assert state.reserve().reserve().reserved == state.round + 1


def test_keys_of_the_noise_are_not_shown(state: RoundState) -> None:
    assert state.noise_keys[0].hex() not in repr(state)
    assert repr(state.noise_keys[0]) not in repr(state)
