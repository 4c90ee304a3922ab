"""What leaves a device, what is refused, and that nothing of an error leaks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client import app as module
from client.app import app, device_folder, pack, read_request
from client.data import DeviceConfig, write_device
from client.ledger import Ledger
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, ModelConfig
from shared_model.errors import CompatibilityError, ConfigError, MissingError
from shared_model.messages import ARRAY, NOTICE, PROTOCOL, REPLY, SETTINGS, RoundRequest
from shared_model.records import Batch
from shared_model.split import flatten
from shared_model.weights import architecture_hash
from simulations.grid import InProcessGrid

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)
REQUEST = RoundRequest(
    run="abc",
    round=1,
    rounds=2,
    model=TINY,
    loss=LossConfig(),
    architecture=architecture_hash(TINY),
    unit="user",
    clip=0.5,
    record_clip=1.0,
    noise_multiplier=1.5,
    cohort=100,
    population=100_000,
    delta=1e-6,
    simulated=False,
    local_steps=1,
    batch=2,
    learning_rate=1e-3,
    record_rate=0.5,
    upload="int8",
    seed=0,
)
VECTOR = flatten(Backbone(TINY))
Ask = Callable[..., Message]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device folder with ready-made records."""
    home = tmp_path / "secret-name"
    write_device(home, DeviceConfig(photos=Path("photos"), art=Path("art"), max_epsilon=2.0, size_px=64))
    draw = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, 3, 64, 64, generator=draw) for _ in range(5)]
    monkeypatch.setattr(module, "load_records", lambda path: Batch(*pictures, torch.zeros(3)))
    return home


@pytest.fixture
def ask(folder: Path) -> Ask:
    """Send one request to the device and return its reply."""
    InProcessGrid(app, [])

    def send(request: RoundRequest = REQUEST, vector: torch.Tensor = VECTOR, **node: object) -> Message:
        message = request_message(request, vector)
        context = Context(1, 1001, {"device-dir": str(folder), **node}, RecordDict(), {})
        return app(message, context)

    return send


def request_message(request: RoundRequest, vector: torch.Tensor = VECTOR) -> Message:
    InProcessGrid(app, [])
    content = RecordDict(
        {ARRAY: ArrayRecord({ARRAY: Array(vector.numpy())}), SETTINGS: ConfigRecord(dict(request.to_values()))}
    )
    return Message(content, 1001, MessageType.TRAIN, group_id="1")


def test_the_upload_is_one_clipped_array_and_nothing_else(ask: Ask, folder: Path) -> None:
    reply = ask(replace(REQUEST, clip=0.1))
    assert set(reply.content) == {ARRAY, REPLY}
    values = dict(reply.content.config_records[REPLY])
    scale = values.pop("scale")
    book = Ledger.open(folder / "ledger.json").book()
    assert values.pop("ledger") not in ("", book.identity)
    assert values == {"protocol": PROTOCOL, "run": "abc", "round": 1, "entry": 1}
    assert list(reply.content.array_records[ARRAY]) == [ARRAY]
    update = reply.content.array_records[ARRAY][ARRAY].numpy()
    assert update.dtype == np.int8
    assert update.shape == VECTOR.shape
    assert np.linalg.norm(update.astype(np.float64) * scale) == pytest.approx(0.1, rel=1e-2)
    entry = Ledger.open(folder / "ledger.json").entries()[0]
    assert (entry.run, entry.round, entry.state, entry.bytes_sent) == ("abc", 1, "committed", len(VECTOR) + 4)
    assert (entry.noise_multiplier, entry.sample_rate, entry.unit) == (1.5, 0.001, "user")


def test_the_price_is_reserved_before_training_and_stays_when_it_fails(
    ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    states: list[str] = []

    def explode(*args: object, **settings: object) -> None:
        states.extend(entry.state for entry in Ledger.open(folder / "ledger.json").entries())
        raise RuntimeError("a private detail in secret-name")

    monkeypatch.setattr(module, "train_user_level", explode)
    reply = ask()
    assert states == ["reserved"]
    assert (reply.error.code, reply.error.reason) == (103, "RuntimeError")
    assert "private detail" in caplog.text
    assert [entry.state for entry in Ledger.open(folder / "ledger.json").entries()] == ["reserved"]
    assert Ledger.open(folder / "ledger.json").spent() > 0


@pytest.mark.parametrize(
    "changes", [{"noise_multiplier": 0.1}, {"clip": 50.0}, {"local_steps": 10**6}, {"simulated": True}]
)
def test_a_request_beyond_the_policy_is_refused_unpaid(changes: dict[str, object], ask: Ask, folder: Path) -> None:
    reply = ask(replace(REQUEST, **changes))
    assert reply.error.code == 101
    assert reply.error.reason == "Refused"
    summary = Ledger.open(folder / "ledger.json").summary()
    assert summary["participations"] == 0 and summary["epsilon"] == 0
    assert [(item["run"], item["count"]) for item in summary["refusals"]] == [("abc", 1)]


def test_a_replay_is_declined_untrained_and_a_new_attempt_is_not(
    ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ask().has_error()
    reply = ask()
    assert (reply.error.code, reply.error.reason) == (104, "LedgerError")
    assert "replay" in Ledger.open(folder / "ledger.json").summary()["refusals"][0]["why"]
    again = ask(replace(REQUEST, attempt=2))
    assert again.content.config_records[REPLY]["entry"] == 2


def test_a_server_that_has_seen_more_stops_the_device(ask: Ask, folder: Path) -> None:
    assert not ask().has_error()
    message = request_message(replace(REQUEST, round=2))
    message.content[NOTICE] = ConfigRecord({"seen": 2})
    reply = app(message, Context(1, 1001, {"device-dir": str(folder)}, RecordDict(), {}))
    assert reply.error.code == 104
    assert Ledger.open(folder / "ledger.json").spent() == 2.0


@pytest.mark.parametrize("seen", [-1, "many", 0.5])
def test_a_notice_that_is_no_count_is_refused(seen: object, folder: Path) -> None:
    message = request_message(REQUEST)
    message.content[NOTICE] = ConfigRecord({"seen": seen})
    reply = app(message, Context(1, 1001, {"device-dir": str(folder)}, RecordDict(), {}))
    assert reply.error.code == 103
    assert not (folder / "ledger.json").exists()


def test_a_real_device_has_a_second_memory_and_a_simulated_one_has_none(ask: Ask, folder: Path, own_home: Path) -> None:
    ask(replace(REQUEST, simulated=True), **{"partition-id": 0})
    assert not (own_home / "ledgers").exists()
    ask(replace(REQUEST, round=2))
    (copy,) = (own_home / "ledgers").glob("*.json")
    assert copy.read_bytes() == (folder / "ledger.json").read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_simulated_device_accepts_rescaled_noise(ask: Ask) -> None:
    assert not ask(replace(REQUEST, simulated=True), **{"partition-id": 0}).has_error()


def test_beyond_the_budget_nothing_is_trained(ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train_user_level", lambda *args, **settings: pytest.fail("trained"))
    reply = ask(replace(REQUEST, cohort=100_000))
    assert (reply.error.code, reply.error.reason) == (102, "BudgetError")
    assert Ledger.open(folder / "ledger.json").spent() == 0


def test_without_noise_the_budget_refuses(ask: Ask, folder: Path) -> None:
    (folder / "policy.toml").write_text("min_noise_multiplier = 0.0\n")
    assert ask(replace(REQUEST, noise_multiplier=0.0)).error.code == 102


def test_example_level_costs_every_local_step(ask: Ask, folder: Path) -> None:
    reply = ask(replace(REQUEST, unit="example", noise_multiplier=6.0, local_steps=2))
    assert not reply.has_error()
    entry = Ledger.open(folder / "ledger.json").entries()[0]
    assert (entry.unit, entry.steps, entry.sample_rate, entry.noise_multiplier) == ("example", 2, 0.5, 6.0)


def context(node: dict[str, object], run: dict[str, object]) -> Context:
    return Context(1, 1, node, RecordDict(), run)


def test_the_folder_is_the_nodes_own_or_numbered_in_a_simulation(tmp_path: Path) -> None:
    for name in ("10", "2", "1", "empty"):
        (tmp_path / "all" / name).mkdir(parents=True)
        if name != "empty":
            (tmp_path / "all" / name / "device.toml").touch()
    own = {"device-dir": str(tmp_path / "all" / "2")}
    assert device_folder(context(own, {"devices-dir": "/elsewhere"})) == (tmp_path / "all" / "2", False)
    run = {"devices-dir": str(tmp_path / "all")}
    found = [device_folder(context({"partition-id": index}, run))[0].name for index in range(3)]
    assert found == ["1", "2", "10"]
    assert device_folder(context({"partition-id": 0}, run))[1]
    with pytest.raises(MissingError, match="holds 3 devices"):
        device_folder(context({"partition-id": 3}, run))
    with pytest.raises(MissingError, match="no device folder"):
        device_folder(context({"device-dir": str(tmp_path / "gone")}, {}))


def test_a_server_cannot_name_a_real_devices_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not know its folder"):
        device_folder(context({}, {"devices-dir": str(tmp_path)}))


def test_a_request_that_does_not_fit_is_refused() -> None:
    request, vector = read_request(request_message(REQUEST))
    assert request == REQUEST
    assert torch.equal(vector, VECTOR)
    with pytest.raises(CompatibilityError, match="architecture"):
        read_request(request_message(replace(REQUEST, architecture="000000000000")))
    with pytest.raises(CompatibilityError, match="float32"):
        read_request(request_message(REQUEST, VECTOR[:-1]))
    with pytest.raises(CompatibilityError, match="float64"):
        read_request(request_message(REQUEST, VECTOR.double()))
    for change, error in (
        ({"protocol": 2}, CompatibilityError),
        ({"extra": 1}, ConfigError),
        ({"clip": -1.0}, ConfigError),
    ):
        message = request_message(REQUEST)
        message.content.config_records[SETTINGS].update(change)
        with pytest.raises(error):
            read_request(message)
    message = request_message(REQUEST)
    del message.content[ARRAY]
    with pytest.raises(CompatibilityError, match="not a round request"):
        read_request(message)


def test_a_poisoned_backbone_costs_nothing(ask: Ask, folder: Path) -> None:
    poisoned = VECTOR.clone()
    poisoned[5] = torch.nan
    assert ask(vector=poisoned).error.reason == "CompatibilityError"
    assert not (folder / "ledger.json").exists()


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.sampled_from(["int8", "float16"]),
    st.floats(1e-3, 5.0),
)
def test_a_packed_update_never_exceeds_the_clip(numbers: list[float], upload: str, bound: float) -> None:
    request = replace(REQUEST, upload=upload, clip=bound)
    values, scale = pack(torch.tensor(numbers, dtype=torch.float32), request)
    assert values.dtype == np.dtype(upload)
    unpacked = torch.from_numpy(values.astype(np.float32)) * scale
    assert float(unpacked.double().norm()) <= bound * (1 + 1e-6)


def test_float16_keeps_a_small_update_almost_exactly() -> None:
    delta = torch.linspace(-1e-6, 1e-6, 101)
    values, scale = pack(delta, replace(REQUEST, upload="float16"))
    assert np.allclose(values.astype(np.float32) * scale, delta.numpy(), rtol=1e-3, atol=1e-12)
    assert pack(torch.zeros(3), replace(REQUEST, upload="float16"))[1] == 0.0
