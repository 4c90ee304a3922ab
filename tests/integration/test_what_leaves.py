"""What a device's replies hold, byte for byte as Flower would send them; and that the scanner finds what is planted."""

import io
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client.app import app
from client.data import device_heads, load_records
from client.ledger import Ledger
from server.config import FederationConfig
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model import objective
from shared_model.images import load_picture
from shared_model.messages import ARRAY, REPLY
from shared_model.weights import load_backbone
from simulations.grid import InProcessGrid
from simulations.leaks import Finding, Scanner, Secrets, device_secrets

MakeDevices = Callable[[int], list[Path]]
TEXTS = {"user": "marguerite", "town": "lisbon"}


def serialized(message: Message) -> bytes:
    """Return the reply in both of Flower's forms: one protobuf, and the objects that SuperNodes push."""
    objects = [item.deflate() for item in get_all_nested_objects(message).values()]
    return b"\n".join([message_to_proto(message).SerializeToString(), *objects])


class Heard:
    """Runs the real client app and keeps every reply, its context's state, and the losses that it saw."""

    def __init__(self, folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.replies: list[Message] = []
        self.contexts: list[Context] = []
        self.losses: dict[str, float] = {}
        self.grid = InProcessGrid(self._answer, [{"device-dir": str(folder)} for folder in folders])  # type: ignore[arg-type]
        original = objective.generator_loss

        def spy(*args: Any, **settings: Any) -> Any:
            losses, output = original(*args, **settings)
            for value in (*losses.detach().tolist(), float(losses.detach().mean())):
                self.losses[f"loss {len(self.losses)}"] = value
            return losses, output

        monkeypatch.setattr(objective, "generator_loss", spy)

    def _answer(self, message: Message, context: Context) -> Message:
        reply = app(message, context)
        self.replies.append(reply)
        self.contexts.append(context)
        return reply

    def train(self, config: FederationConfig, folder: Path, weights: Path) -> RoundState:
        return run(self.grid, StateStore(folder), config=config, start=lambda: load_backbone(weights))

    def data(self) -> bytes:
        return b"\n".join(serialized(reply) for reply in self.replies)


def scanner(folders: list[Path], numbers: dict[str, float]) -> Scanner:
    found = [device_secrets(folder, texts=TEXTS, numbers=numbers) for folder in folders]
    assert all(len(device.arrays) > 100 for device in found)
    return Scanner(*found)


SECURE = {"secure_aggregation": True}
EXAMPLE = {
    "unit": "example",
    "records": 5,
    "batch": 4,
    "noise_multiplier": 6.0,
    "population": 3,
    "cohort": 3,
    "simulated_population": 0,
    "simulated_cohort": 0,
    "rescale_noise": False,
}


@pytest.mark.parametrize(
    "changes", [{}, {"upload": "float16"}, EXAMPLE, SECURE], ids=["int8", "float16", "example", "secure"]
)
def test_nothing_private_is_in_the_bytes_of_a_reply(
    changes: dict[str, Any],
    tmp_path: Path,
    config: FederationConfig,
    private_devices: MakeDevices,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = private_devices(3)
    heard = Heard(folders, monkeypatch)
    state = heard.train(replace(config, rounds=1, local_steps=2, **changes), tmp_path / "run", weights)
    assert state.reports[0].accepted == 3
    data = heard.data()
    assert len(data) > 3 * len(state.backbone)
    assert heard.losses or changes.get("unit") == "example"
    assert scanner(folders, heard.losses).scan(data) == []
    for reply in heard.replies:
        check_values(reply, state)
    assert all(not context.state for context in heard.contexts)  # Flower keeps nothing of a device either


def check_values(reply: Message, state: RoundState) -> None:
    """A reply has these keys and no others, and its plain values are public or say nothing of the data."""
    assert set(reply.content) <= {ARRAY, REPLY}
    values = dict(reply.content.config_records[REPLY])
    assert (values.pop("protocol"), values.pop("run"), values.pop("round")) == (1, state.run, 1)
    stage = values.pop("stage", None)
    values.pop("attempt", None)
    allowed = {
        None: {"scale", "ledger", "entry"},
        "keys": {"mask_key", "seal_key"},
        "shares": {"sealed", "promise"},
        "masked": set(),
        "open": {"about", "shares"},
    }
    assert set(values) == allowed[stage]
    if stage is None:
        assert isinstance(values["scale"], float)
    assert (ARRAY in reply.content) == (stage in (None, "masked"))
    assert not reply.content.metric_records


def planted(folder: Path) -> dict[str, tuple[str, Callable[[Message], None]]]:
    """Return leaks by name: the secret's label that must be found, and what puts it into a reply."""
    picture = load_picture(folder / "photos" / "our-photos-in-lisbon-0.png").rgb
    head = device_heads(folder)[0]
    patch = head.levels[0].patches
    pixels = "pixels of photos/our-photos-in-lisbon-0.png, channels last"
    record = load_records(folder).photo[0]

    def metric(reply: Message, **values: Any) -> None:
        reply.content["metrics"] = MetricRecord(values)

    def text(reply: Message, value: Any) -> None:
        reply.content.config_records[REPLY]["note"] = value

    def array(reply: Message, values: np.ndarray) -> None:
        reply.content["extra"] = ArrayRecord({"extra": Array(values)})

    def saved(values: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.savez_compressed(stream, values=values)
        return stream.getvalue()

    return {
        "patch": ("head 0, level 0 patches (uint8)", lambda reply: array(reply, patch[3:5].numpy())),
        "patch, float": ("head 0, level 0 patches (float32)", lambda reply: array(reply, patch[3:5].float().numpy())),
        "pixel row": (
            pixels,
            lambda reply: array(reply, picture[17]),
        ),
        "row, zlib": (
            pixels,
            lambda reply: text(reply, b"...." + zlib.compress(picture[17].tobytes())),
        ),
        "row, npz": (
            pixels,
            lambda reply: text(reply, saved(picture[17].astype(np.float32) / 255)),
        ),
        "record": ("records, tensor 0 (float16)", lambda reply: array(reply, record.half().numpy()[:, 5])),
        "file": ("file photos/our-photos-in-lisbon-0.png", lambda reply: text(reply, picture_bytes(folder)[100:160])),
        "file name": (
            "name of photos/our-photos-in-lisbon-0.png",
            lambda reply: text(reply, "our-photos-in-lisbon-0.png"),
        ),
        "path": ("device folder", lambda reply: text(reply, str(folder))),
        "user": ("user", lambda reply: text(reply, "marguerite")),
        "basis": ("head 0, level 1 basis (float32)", lambda reply: array(reply, head.levels[1].basis.numpy())),
        "loss": ("loss 0", lambda reply: metric(reply, loss=0.71828182845)),
        "loss, text": ("loss 0", lambda reply: text(reply, "loss=0.7183")),
    }


def picture_bytes(folder: Path) -> bytes:
    return (folder / "photos" / "our-photos-in-lisbon-0.png").read_bytes()


def test_the_scanner_finds_what_is_planted(
    tmp_path: Path,
    config: FederationConfig,
    private_devices: MakeDevices,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = private_devices(3)
    heard = Heard(folders, monkeypatch)
    heard.train(replace(config, rounds=1), tmp_path / "run", weights)
    seeker = scanner(folders[:1], {"loss 0": 0.71828182845})
    for name, (label, plant) in planted(folders[0]).items():
        reply = Message(heard.replies[0].content.copy(), reply_to=_request(heard))
        reply.content[REPLY] = ConfigRecord(dict(heard.replies[0].content.config_records[REPLY]))
        plant(reply)
        found = {finding.what for finding in seeker.scan(serialized(reply))}
        assert any(what.startswith(label) for what in found), (name, found)


def _request(heard: Heard) -> Message:
    from flwr.app import MessageType, RecordDict

    return Message(RecordDict(), 1001, MessageType.TRAIN, group_id="1")


def test_errors_say_their_kind_and_nothing_else(
    tmp_path: Path,
    config: FederationConfig,
    private_devices: MakeDevices,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four devices fail in four ways, each with a path or a name in its error's text."""
    folders = private_devices(4)
    seeker = scanner(folders, {})
    for picture in (folders[0] / "photos").iterdir():
        picture.write_bytes(b"this is no picture")
    Ledger.open(folders[1] / "ledger.json", max_epsilon=1e-6, delta=1e-6)
    (folders[1] / "device.toml").write_text(
        (folders[1] / "device.toml").read_text().replace("max_epsilon = 20.0", "max_epsilon = 1e-6")
    )
    (folders[2] / "policy.toml").write_text("max_clip = 0.001\n")
    (folders[3] / "device.toml").write_text("photos = 'marguerite-secret-folder'\n")
    heard = Heard(folders, monkeypatch)
    four = replace(config, rounds=1, simulated_population=4, simulated_cohort=4, min_nodes=4)
    state = heard.train(four, tmp_path / "run", weights)
    assert state.reports[0].accepted == 0
    assert [reply.error.code for reply in heard.replies] == [103, 102, 101, 103]
    assert [reply.error.reason for reply in heard.replies] == ["InputError", "BudgetError", "Refused", "ConfigError"]
    assert seeker.scan(heard.data()) == []


def test_how_many_pictures_a_device_has_does_not_show(
    tmp_path: Path,
    config: FederationConfig,
    private_devices: MakeDevices,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Replies of devices with 3 and with 1 photos, with 5 and with 2 records, have the same keys, types and sizes."""
    folders = private_devices(3)
    for extra in sorted((folders[1] / "photos").iterdir())[1:]:
        extra.unlink()
    text = (folders[2] / "device.toml").read_text()
    (folders[2] / "device.toml").write_text(text.replace("records = 5", "records = 2"))
    heard = Heard(folders, monkeypatch)
    heard.train(replace(config, rounds=1), tmp_path / "run", weights)
    shapes = []
    for reply in heard.replies:
        array = reply.content.array_records[ARRAY][ARRAY]
        values = {key: type(value) for key, value in reply.content.config_records[REPLY].items()}
        shapes.append(
            (array.dtype, array.shape, len(array.data), values, len(message_to_proto(reply).SerializeToString()))
        )
    assert shapes[0] == shapes[1] == shapes[2]


def test_an_upload_takes_at_most_1_1_bytes_a_parameter(
    tmp_path: Path,
    config: FederationConfig,
    private_devices: MakeDevices,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = Heard(private_devices(3), monkeypatch)
    state = heard.train(replace(config, rounds=1), tmp_path / "run", weights)
    for reply in heard.replies:
        assert len(message_to_proto(reply).SerializeToString()) <= 1.1 * len(state.backbone)
        pushed = sum(len(item.deflate()) for item in get_all_nested_objects(reply).values())
        assert pushed <= 1.1 * len(state.backbone)


def test_findings_are_told_apart() -> None:
    data = b"x" * 10 + zlib.compress(b"marguerite")
    assert Scanner(Secrets(texts={"user": "marguerite"})).scan(data) == [Finding("user", "zlib in raw")]
