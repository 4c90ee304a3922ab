"""Every way a reply can be wrong, and that a right one is admitted."""

import io
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from server.admission import Admission
from server.config import FederationConfig
from server.rounds import begin, plan
from server.transport import request_content, send
from shared_model.backbone import Backbone
from shared_model.messages import ARRAY, PROTOCOL, REPLY, RoundRequest
from shared_model.sparse import pack_positions
from simulations.grid import InProcessGrid

SIZE = 50


class Round:
    """One asked device and the admission that judges it."""

    def __init__(self, config: FederationConfig, backbone: Backbone, client: object) -> None:
        grid = InProcessGrid(client, [{}, {}])
        state = begin(config, backbone).reserve()
        self.request: RoundRequest = plan(state, list(grid.get_node_ids()), config=config).request
        content = request_content(self.request, torch.zeros(SIZE))
        self.asked = send(grid, content, list(grid.get_node_ids()), group="1", ttl_s=60.0)
        self.messages = [grid._waiting[name] for name in self.asked]
        self.admission = Admission(self.request, size=SIZE, asked=self.asked)

    def reply(self, array: Array | None = None, index: int = 0, **changes: object) -> Message:
        values = {"protocol": PROTOCOL, "run": self.request.run, "round": self.request.round, "scale": 0.001}
        values |= {"ledger": f"{index:016d}", "entry": 1}
        record = ArrayRecord({ARRAY: array or Array(np.arange(SIZE, dtype=np.int8))})
        content = RecordDict({ARRAY: record, REPLY: ConfigRecord({**values, **changes})})
        return Message(content, reply_to=self.messages[index])

    def reason(self, message: Message) -> str:
        verdict = self.admission.judge(message)
        assert (verdict.update is None) == bool(verdict.reason)
        return verdict.reason


@pytest.fixture
def current(config: FederationConfig, backbone: Backbone, fake_client: object) -> Round:
    return Round(config, backbone, fake_client)


def test_honest_reply_is_admitted(current: Round) -> None:
    verdict = current.admission.judge(current.reply())
    assert verdict.reason == ""
    assert verdict.node == next(iter(current.asked.values()))
    assert torch.allclose(verdict.update, torch.arange(SIZE) * 0.001)
    assert current.admission.missing() == tuple(current.asked.values())[1:]


def npy(array: np.ndarray, **claims: object) -> Array:
    """An array whose declared facts may differ from its bytes."""
    stream = io.BytesIO()
    np.save(stream, array)
    facts = {"dtype": "int8", "shape": (SIZE,), "stype": "numpy.ndarray", "data": stream.getvalue(), **claims}
    return Array(facts["dtype"], facts["shape"], facts["stype"], facts["data"])


GOOD = np.zeros(SIZE, np.int8)
BAD_ARRAYS: Mapping[str, tuple[Array, str]] = {
    "float32": (Array(np.zeros(SIZE, np.float32)), "wrong dtype"),
    "int64": (Array(np.zeros(SIZE, np.int64)), "wrong dtype"),
    "too short": (Array(np.zeros(SIZE - 1, np.int8)), "wrong length"),
    "too long": (Array(np.zeros(SIZE + 1, np.int8)), "wrong length"),
    "one number": (Array(np.zeros(1, np.int8)), "wrong length"),
    "two dimensions": (Array(np.zeros((1, SIZE), np.int8)), "wrong length"),
    "huge payload": (npy(np.zeros(SIZE * 1000, np.int8)), "wrong length"),
    "header says float": (npy(np.zeros(SIZE // 4, np.float32)), "wrong dtype"),
    "header says another length": (npy(np.zeros(SIZE - 1, np.int8)), "wrong length"),
    "not numpy": (npy(GOOD, stype="torch.tensor"), "wrong dtype"),
    "garbage": (npy(GOOD, data=b"\x00" * 80), "unreadable"),
    "pickle": (npy(GOOD, data=b"\x80\x04K\x01."), "unreadable"),
    "unbalanced header": (npy(GOOD, data=b"\x93NUMPY\x01\x00\x04\x00((((" + bytes(SIZE)), "unreadable"),
    "cut off": (npy(GOOD, data=npy(GOOD).data[:-3]), "wrong length"),
    "bomb": (npy(GOOD, data=npy(GOOD).data.replace(b"(50,)", b"(10**9,)")), "unreadable"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_array_is_dropped(current: Round, name: str) -> None:
    array, reason = BAD_ARRAYS[name]
    assert current.reason(current.reply(array)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 2}, "another round"),
        ({"run": "somebody"}, "another run"),
        ({"protocol": 99}, "wrong keys"),
        ({"loss": 0.1}, "wrong keys"),
        ({"scale": float("nan")}, "bad scale"),
        ({"scale": float("inf")}, "bad scale"),
        ({"scale": -0.1}, "bad scale"),
        ({"scale": 0.4}, "norm above the clip"),
        ({"scale": 1}, "bad scale"),
    ],
)
def test_bad_values_are_dropped(current: Round, changes: dict[str, object], reason: str) -> None:
    assert current.reason(current.reply(**changes)) == reason


def test_error_reply_is_mapped_by_the_message_it_answers(current: Round) -> None:
    reply = Message(Error(5, "NODE_UNAVAILABLE"), reply_to=current.messages[0])
    reply.metadata.__dict__["_src_node_id"] = 1  # Flower reports a dead node as the server itself
    verdict = current.admission.judge(reply)
    assert verdict.node == next(iter(current.asked.values()))
    assert verdict.reason == "error 5"


def test_duplicate_and_unasked_and_foreign_replies(current: Round) -> None:
    assert current.reason(current.reply()) == ""
    assert current.reason(current.reply()) == "duplicate"
    foreign = current.reply(index=1)
    foreign.metadata.__dict__["_src_node_id"] = 77
    assert current.reason(foreign) == "wrong sender"
    stray = current.reply()
    stray.metadata.__dict__["_reply_to_message_id"] = "never sent"
    assert current.reason(stray) == "not asked"


def test_wrong_records_are_dropped(current: Round) -> None:
    first = current.reply()
    first.content["metrics"] = MetricRecord({"num-examples": 3})
    assert current.reason(first) == "wrong keys"
    second = current.reply(index=1)
    second.content[ARRAY]["extra"] = Array(GOOD)
    assert current.reason(second) == "wrong keys"


PLACES = np.array([0, 7, 8, 40, 49])  # a tenth of the numbers


def sparse(places: np.ndarray = PLACES, numbers: np.ndarray | None = None) -> Array:
    given = np.arange(1, len(places) + 1).astype(np.int8) if numbers is None else numbers
    head = pack_positions(places, size=SIZE)
    return Array(np.concatenate([head, np.frombuffer(given.tobytes(), np.uint8)]))


def _flipped(at: int) -> Array:
    data = sparse().numpy().copy()
    data[at] ^= 255
    return Array(data)


#: 5 of 50: 3 low bits each and 5 + 6 marks, 26 bits in 4 bytes, then 5 numbers.
BAD_SPARSE: Mapping[str, tuple[Array, str]] = {
    "dense": (Array(np.zeros(SIZE, np.int8)), "wrong dtype"),
    "dense bytes": (Array(np.zeros(SIZE, np.uint8)), "wrong length"),
    "one number more": (sparse(np.arange(6)), "wrong length"),
    "one number less": (sparse(np.arange(4)), "wrong length"),
    "numbers of another type": (sparse(numbers=np.ones(5, np.float16)), "wrong length"),
    "positions only": (Array(pack_positions(PLACES, size=SIZE)), "wrong length"),
    "no marks": (Array(np.zeros(9, np.uint8)), "wrong positions"),
    "marks everywhere": (Array(np.full(9, 255, np.uint8)), "wrong positions"),
    "bits after the end": (_flipped(3), "wrong positions"),
    "a header that promises more": (npy(np.zeros(9, np.uint8), dtype="uint8", shape=(10**9,)), "wrong length"),
    "too long": (sparse(numbers=np.full(5, 127, np.int8)), "norm above the clip"),
}


@pytest.fixture
def tenth(config: FederationConfig, backbone: Backbone, fake_client: object, with_changes: Callable) -> Round:
    return Round(with_changes(config, top_k=0.1), backbone, fake_client)


def test_a_sparse_update_is_laid_out_where_it_says(tenth: Round) -> None:
    verdict = tenth.admission.judge(tenth.reply(sparse()))
    assert verdict.reason == "" and verdict.nbytes < SIZE + 128, "with a header of 128"
    assert verdict.update.nonzero().flatten().tolist() == PLACES.tolist()
    assert torch.allclose(verdict.update[PLACES], 0.001 * torch.arange(1.0, 6.0))


@pytest.mark.parametrize("name", BAD_SPARSE)
def test_bad_sparse_update_is_dropped(tenth: Round, name: str) -> None:
    array, reason = BAD_SPARSE[name]
    assert tenth.reason(tenth.reply(array, scale=0.01)) == reason


def test_a_sparse_update_where_all_was_asked_for_is_dropped(current: Round) -> None:
    assert current.reason(current.reply(sparse())) == "wrong dtype"


def test_sparse_float16_may_hold_infinity(
    config: FederationConfig, backbone: Backbone, fake_client: object, with_changes: Callable
) -> None:
    current = Round(with_changes(config, upload="float16", top_k=0.1), backbone, fake_client)
    assert current.reason(current.reply(sparse(numbers=np.full(5, np.inf, np.float16)))) == "not finite"
    assert current.reason(current.reply(sparse(numbers=np.ones(5, np.float16)), index=1)) == ""


def test_float16_may_hold_infinity(
    config: FederationConfig, backbone: Backbone, fake_client: object, with_changes: Callable
) -> None:
    current = Round(with_changes(config, upload="float16"), backbone, fake_client)
    poisoned = np.zeros(SIZE, np.float16)
    poisoned[3] = np.nan
    assert current.reason(current.reply(Array(poisoned), scale=0.5)) == "not finite"
    fine = np.full(SIZE, 0.01, np.float16)
    assert current.reason(current.reply(Array(fine), index=1, scale=0.5)) == ""


def test_the_bit_must_be_there_with_adaptive_clipping_and_only_then(
    config: FederationConfig, backbone: Backbone, fake_client: object, with_changes: Callable
) -> None:
    plain = Round(config, backbone, fake_client)
    assert plain.admission.judge(plain.reply()).within is None
    assert plain.reason(plain.reply(index=1, within=True)) == "wrong keys"
    adaptive = with_changes(config, adaptive_clip=True)
    for bit in (True, False):
        current = Round(adaptive, backbone, fake_client)
        assert current.admission.judge(current.reply(within=bit)).within is bit
        assert current.reason(current.reply(index=1)) == "wrong keys"


@pytest.mark.parametrize("bit", [1, 0.5, "yes", 1e9])
def test_a_bit_is_a_bit(
    bit: object, config: FederationConfig, backbone: Backbone, fake_client: object, with_changes: Callable
) -> None:
    current = Round(with_changes(config, adaptive_clip=True), backbone, fake_client)
    assert current.reason(current.reply(within=bit)) == "bad bit"
