"""What leaves a device, what is refused, and that nothing of an error leaks."""

import time
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
from client.data import DeviceConfig, load_device, write_device
from client.ledger import Ledger
from client.rest import FILE, resting
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, ModelConfig
from shared_model.errors import CompatibilityError, ConfigError, MissingError
from shared_model.mechanism import Mechanism
from shared_model.messages import ARRAY, DECLINED, PROTOCOL, REPLY, SETTINGS, WITHIN, RoundRequest
from shared_model.privacy import epsilon
from shared_model.quantize import dequantize, quantize
from shared_model.records import Batch
from shared_model.sparse import kept, positions_nbytes, unpack_positions
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
    monkeypatch.setattr("client.trainer.load_records", lambda path: Batch(*pictures, torch.zeros(3)))
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
    assert (len(str(values.pop("ledger"))), values.pop("entry")) == (16, 1)
    assert values == {"protocol": PROTOCOL, "run": "abc", "round": 1}
    assert list(reply.content.array_records[ARRAY]) == [ARRAY]
    update = reply.content.array_records[ARRAY][ARRAY].numpy()
    assert update.dtype == np.int8
    assert update.shape == VECTOR.shape
    assert np.linalg.norm(update.astype(np.float64) * scale) == pytest.approx(0.1, rel=1e-2)
    entry = Ledger.open(folder / "ledger.json").entries()[0]
    assert (entry.run, entry.round, entry.state, entry.bytes_sent) == ("abc", 1, "committed", len(VECTOR) + 4)
    assert (entry.noise_multiplier, entry.sample_rate, entry.unit) == (1.5, 0.001, "user")


def test_a_gpu_that_is_gone_declines_before_anything_is_paid(
    ask: Ask, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_device(folder, replace(load_device(folder), device="cuda"))
    reply = ask()
    assert (reply.error.code, reply.error.reason) == (103, "MissingError")
    assert "there is no cuda device" in caplog.text and "Traceback" not in caplog.text
    assert not (folder / "ledger.json").exists()
    assert not ask(compute="cpu").has_error(), "the node's own word goes first"


def test_a_rest_is_noted_on_a_real_device_only(ask: Ask, folder: Path) -> None:
    ask(REQUEST)
    assert not (folder / FILE).exists()
    ask(replace(REQUEST, round=2, simulated=True, rest_s=600.0), **{"partition-id": 0})
    assert not (folder / FILE).exists()
    reply = ask(replace(REQUEST, round=2, attempt=9, rest_s=600.0))
    assert not reply.has_error()
    assert resting(folder, now=time.time() + 300.0) is not None
    assert resting(folder, now=time.time() + 901.0) is None


def test_the_price_of_a_larger_selection_is_what_the_device_pays(ask: Ask, folder: Path) -> None:
    ask(replace(REQUEST, over_selection=1.5))
    (entry,) = Ledger.open(folder / "ledger.json").entries()
    assert entry.sample_rate == pytest.approx(1.5 * 100 / 100_000)


def test_the_price_is_reserved_before_training_and_stays_when_it_fails(
    ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    states: list[str] = []

    def explode(*args: object, **settings: object) -> None:
        states.extend(entry.state for entry in Ledger.open(folder / "ledger.json").entries())
        raise RuntimeError("a private detail in secret-name")

    monkeypatch.setattr("client.trainer.train_user_level", explode)
    reply = ask()
    assert states == ["reserved"]
    assert (reply.error.code, reply.error.reason) == (103, "RuntimeError")
    assert "private detail" in caplog.text
    assert [entry.state for entry in Ledger.open(folder / "ledger.json").entries()] == ["reserved"]
    assert Ledger.open(folder / "ledger.json").spent() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_multiplier": 0.1},
        {"clip": 50.0},
        {"local_steps": 10**6},
        {"simulated": True},
        {"delta": 1e-3},
        {"clip": 50.0, "adaptive_clip": True, "count_noise": 50.0},
        {"mechanism": "factorized", "noise_multiplier": 0.2},
    ],
)
def test_a_request_beyond_the_policy_is_refused_unpaid(changes: dict[str, object], ask: Ask, folder: Path) -> None:
    reply = ask(replace(REQUEST, **changes))
    assert reply.error.code == 101
    assert reply.error.reason == "Refused"
    summary = Ledger.open(folder / "ledger.json").summary()
    assert summary["entries"] == []
    assert [refusal["count"] for refusal in summary["refusals"]] == [1]


def test_a_simulated_device_accepts_rescaled_noise(ask: Ask) -> None:
    assert not ask(replace(REQUEST, simulated=True), **{"partition-id": 0}).has_error()


ADAPTIVE = replace(REQUEST, adaptive_clip=True, count_noise=50.0)


@pytest.mark.parametrize(("clip", "within"), [(1e-4, False), (9.0, True)])
def test_with_adaptive_clipping_one_bit_more_leaves(clip: float, within: bool, ask: Ask, folder: Path) -> None:
    reply = ask(replace(ADAPTIVE, clip=clip))
    assert set(reply.content) == {ARRAY, REPLY}
    values = dict(reply.content.config_records[REPLY])
    assert set(values) == {"protocol", "run", "round", "scale", "ledger", "entry", WITHIN}
    assert values[WITHIN] is within
    update = reply.content.array_records[ARRAY][ARRAY].numpy().astype(np.float64) * values["scale"]
    assert np.linalg.norm(update) <= clip * (1 + 1e-6)
    entry = Ledger.open(folder / "ledger.json").entries()[0]
    assert (entry.noise_multiplier, entry.sample_rate) == (1.5, 0.001), "update and bit are paid for together"
    assert entry.bytes_sent == len(VECTOR) + 5


def test_a_bit_with_too_little_noise_is_not_sent(ask: Ask, folder: Path) -> None:
    InProcessGrid(app, [])
    message = request_message(ADAPTIVE)
    for noise in (0.0, 0.7):
        message.content.config_records[SETTINGS]["count_noise"] = noise
        reply = app(message, Context(1, 1001, {"device-dir": str(folder)}, RecordDict(), {}))
        assert reply.error.reason == "ConfigError"
    assert not (folder / "ledger.json").exists()


FACTORIZED = replace(
    REQUEST, mechanism="factorized", min_separation=3, noise_multiplier=4.0, cohort=100_000, rounds=20, delta=1e-6
)


def test_a_device_takes_part_once_in_the_separation_whatever_the_server_says(
    ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ask(replace(FACTORIZED, round=5)).has_error()
    spent = Ledger.open(folder / "ledger.json").spent()
    with monkeypatch.context() as patched:
        patched.setattr("client.trainer.train_user_level", lambda *args, **settings: pytest.fail("trained"))
        for changes in ({"round": 5}, {"round": 7}, {"round": 6, "min_separation": 1}, {"round": 4}):
            reply = ask(replace(FACTORIZED, **changes))
            assert (reply.error.code, reply.error.reason) == (104, "TooSoonError")
        assert ask(replace(REQUEST, round=6, rounds=20)).error.code == 104
    assert not ask(replace(FACTORIZED, round=8)).has_error()
    ledger = Ledger.open(folder / "ledger.json")
    assert [(entry.round, entry.sample_rate, entry.separation) for entry in ledger.entries()] == [
        (5, 1.0, 3),
        (8, 1.0, 3),
    ]
    # The first participation paid for the run, without any credit for sampling.
    assert ledger.spent() == spent == epsilon([(Mechanism(4.0, 1.0, "user"), 1)], delta=1e-6)


def test_every_code_is_known_to_the_server(ask: Ask) -> None:
    codes = {module._REFUSED, module._BUDGET, module._FAILED, module._TOO_SOON, module._ANSWERED, module._LEDGER}
    assert codes == set(DECLINED)


def test_beyond_the_budget_nothing_is_trained(ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.trainer.train_user_level", lambda *args, **settings: pytest.fail("trained"))
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
    assert float(unpacked.double().norm()) <= bound


@pytest.mark.parametrize("byte", [0, 255])
@pytest.mark.parametrize("size", [1, 7, 1000, 30_987])
def test_the_clip_holds_when_every_number_is_rounded_up_or_every_one_down(byte: int, size: int) -> None:
    """Rounding at random may fall the worst way for each number: the scale is chosen afterwards."""
    for delta in (torch.full((size,), 3.0), torch.linspace(-1, 1, size), torch.eye(1, size)[0] + 1e-3):
        packed = quantize(delta, bound=0.5, entropy=lambda count: bytes([byte]) * count)
        length = float(dequantize(packed).double().norm())
        assert length <= 0.5
        assert length > 0.45 or float(delta.norm()) < 0.45


def test_float16_keeps_a_small_update_almost_exactly() -> None:
    delta = torch.linspace(-1e-6, 1e-6, 101)
    values, scale = pack(delta, replace(REQUEST, upload="float16"))
    assert np.allclose(values.astype(np.float32) * scale, delta.numpy(), rtol=1e-3, atol=1e-12)
    assert pack(torch.zeros(3), replace(REQUEST, upload="float16"))[1] == 0.0


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.sampled_from(["int8", "float16"]),
    st.floats(0.01, 0.99),
    st.floats(1e-3, 5.0),
)
def test_a_sparse_update_is_as_long_as_its_request_says_and_never_exceeds_the_clip(
    numbers: list[float], upload: str, share: float, bound: float
) -> None:
    """The same bytes for any numbers, zeros too: who sees sizes of messages learns nothing."""
    request, delta = replace(REQUEST, upload=upload, clip=bound, top_k=share), torch.tensor(numbers)
    values, scale = pack(delta, request)
    count = kept(len(delta), share=share)
    start = positions_nbytes(len(delta), count=count)
    assert values.dtype == np.uint8
    assert values.nbytes == start + count * np.dtype(upload).itemsize == pack(0 * delta, request)[0].nbytes
    places = unpack_positions(values[:start], size=len(delta), count=count)
    sent = torch.from_numpy(np.frombuffer(values[start:].tobytes(), upload).astype(np.float32)) * scale
    assert float(sent.double().norm()) <= bound
    left = delta.abs().index_fill(0, torch.from_numpy(places), 0.0)
    assert float(left.max()) <= float(delta.abs()[torch.from_numpy(places)].min()), "the largest are sent"


def test_the_ledger_says_that_a_part_was_sent_and_how_many_bytes(ask: Ask, folder: Path) -> None:
    reply = ask(replace(REQUEST, top_k=0.05))
    (entry,) = Ledger.open(folder / "ledger.json").entries()
    assert entry.kind == "clipped update, int8, largest 5 % of its numbers"
    assert entry.bytes_sent == reply.content.array_records[ARRAY][ARRAY].numpy().nbytes + 4 < 0.1 * len(VECTOR)


def test_another_trainer_is_paid_for_clipped_and_noted_like_the_usual_one(folder: Path) -> None:
    asked: list[tuple[Path, int, str]] = []

    def train(backbone: Backbone, home: Path, request: RoundRequest, *, seed: int) -> torch.Tensor:
        asked.append((home, request.round, Ledger.open(home / "ledger.json").entries()[-1].state))
        assert torch.equal(flatten(backbone), VECTOR)
        return torch.full_like(VECTOR, 7.0)

    message = request_message(REQUEST)
    reply = module.make_app(train)(message, Context(1, 1001, {"device-dir": str(folder)}, RecordDict(), {}))
    assert asked == [(folder, 1, "reserved")]
    values, scale = reply.content.array_records[ARRAY][ARRAY].numpy(), reply.content.config_records[REPLY]["scale"]
    assert np.linalg.norm(values.astype(np.float64) * scale) <= REQUEST.clip
    entry = Ledger.open(folder / "ledger.json").entries()[0]
    assert (entry.state, entry.bytes_sent) == ("committed", len(VECTOR) + 4)
