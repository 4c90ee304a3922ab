"""The Flower ClientApp, and the ONE place that builds what leaves a device.

A round on a device: check the request against the owner's policy, reserve its privacy in the
ledger, train, clip, pack, note it as sent, reply. Nothing else of the device goes up: no counts, no
losses, no names, and of an error only its kind.

A device finds its folder in ``device-dir`` of its own node configuration. In a simulation it is
number ``partition-id`` of the folders in ``devices-dir`` of the run's configuration.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from logging import Logger, getLogger
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from client.data import load_device
from client.ledger import Ledger, Reservation
from client.paths import witness_folder
from client.placement import COMPUTE, place
from client.policy import load_policy
from client.rest import note_rest
from client.secure_stages import Stage, answer
from client.trainer import Placed, Trainer, local_training, round_seed
from shared_model.errors import (
    BudgetError,
    CompatibilityError,
    ConfigError,
    EaselError,
    LedgerError,
    MissingError,
    PrivacyError,
    TooSoonError,
)
from shared_model.messages import ARRAY, NOTICE, PROTOCOL, REPLY, SETTINGS, WITHIN, RoundRequest
from shared_model.noise import Entropy, norm
from shared_model.npy import npy_copy
from shared_model.privacy import clip, quantize
from shared_model.secure_terms import SECURE
from shared_model.sparse import largest, pack_positions
from shared_model.split import size, unflatten
from shared_model.weights import architecture_hash, blank_backbone

__all__ = ["app", "device_folder", "make_app", "pack", "participate", "read_request"]

LEDGER = "ledger.json"
_REFUSED, _BUDGET, _FAILED, _TOO_SOON, _ANSWERED, _LEDGER = 101, 102, 103, 104, 110, 111
_MASKED = "masked update"


def make_app(train: Trainer = local_training) -> ClientApp:
    """Return a Flower ClientApp whose devices train with ``train``; all else is as deployed."""
    made = ClientApp()

    @made.train()
    def answer_round(message: Message, context: Context) -> Message:
        return _answer(message, context, train)

    return made


def _answer(message: Message, context: Context, train: Trainer) -> Message:
    """Answer one round; an error becomes a code, and its text stays in this device's own log."""
    log = getLogger("easel.client")
    try:
        return _reply(message, context, train, log)
    except BudgetError as error:
        return _declined(message, _BUDGET, error, log)
    except TooSoonError as error:
        return _declined(message, _TOO_SOON, error, log)
    except _Refused as error:
        return _declined(message, _REFUSED, error, log)
    except _Answered as error:
        return _declined(message, _ANSWERED, error, log)
    except LedgerError as error:
        return _declined(message, _LEDGER, error, log)
    except Exception as error:
        return _declined(message, _FAILED, error, log)


class _Refused(EaselError):
    """The request goes beyond what this device's owner allows."""


class _Answered(EaselError):
    """An update for the same round was masked before; two would be one too many."""


def _reply(message: Message, context: Context, train: Trainer, log: Logger) -> Message:
    folder, simulated = device_folder(context)
    train = Placed(train, place(str(context.node_config.get(COMPUTE) or load_device(folder).device)))
    if SECURE in message.content:
        return Message(_secure_reply(folder, message, simulated=simulated, train=train, log=log), reply_to=message)
    request, vector = read_request(message)
    try:
        load_policy(folder, simulated=simulated).check(request, parameters=len(vector))
    except EaselError as error:
        _note_refusal(folder, request, error, simulated=simulated)
        raise _Refused(error.message, hint=error.hint) from error
    content = participate(folder, request, vector, simulated=simulated, seen=_seen(message), train=train)
    if request.rest_s and not simulated:
        with contextlib.suppress(EaselError):  # a hint: the answer goes out with or without it
            note_rest(folder, seconds=request.rest_s, now=time.time(), chance=random.SystemRandom().random())
    log.info("round %d of run %s: update sent", request.round, request.run)
    return Message(content, reply_to=message)


def _seen(message: Message) -> int:
    """Return how many participations of this device the server says it has seen; 0 if it says nothing."""
    notice = message.content.get(NOTICE)
    seen = notice.get("seen", 0) if isinstance(notice, ConfigRecord) else 0
    if not isinstance(seen, int) or seen < 0:
        raise CompatibilityError("the server's notice is not a count", hint="update easel on the older side")
    return seen


def _ledger(folder: Path, *, simulated: bool) -> Ledger:
    """Open the device's ledger, or make it; simulated devices come and go, and have no second memory."""
    device = load_device(folder)
    witness = None if simulated else witness_folder()
    return Ledger.open(
        folder / LEDGER, max_epsilon=device.max_epsilon, delta=device.delta, witness=witness, durable=not simulated
    )


def _note_refusal(folder: Path, request: RoundRequest, error: EaselError, *, simulated: bool) -> None:
    """Write down for the owner what was turned down; the refusal stands whether this succeeds or not."""
    with contextlib.suppress(EaselError):
        _ledger(folder, simulated=simulated).refuse(request.run, request.round, error.message)


def _declined(message: Message, code: int, error: Exception, log: Logger) -> Message:
    log.warning("declined (code %d): %s", code, error, exc_info=code == _FAILED and not isinstance(error, EaselError))
    return Message(Error(code=code, reason=type(error).__name__.lstrip("_")), reply_to=message)


def device_folder(context: Context) -> tuple[Path, bool]:
    """Return the device's folder, and whether the device is a simulated one.

    Raises
    ------
    ConfigError
        If neither the node nor the simulation says where it is.
    MissingError
        If there is no such folder.
    """
    node, run = context.node_config, context.run_config
    simulated = "partition-id" in node
    if "device-dir" in node:
        folder = Path(str(node["device-dir"])).expanduser()
    elif simulated and run.get("devices-dir"):
        folder = _numbered(Path(str(run["devices-dir"])).expanduser(), int(node["partition-id"]))
    else:
        raise ConfigError(
            "this device does not know its folder",
            hint="start its SuperNode with --node-config 'device-dir=\"/absolute/folder\"'",
        )
    if not folder.is_dir():
        raise MissingError(f"there is no device folder {folder}")
    return folder, simulated


def _numbered(parent: Path, index: int) -> Path:
    """Return folder number ``index`` of those that hold a device, in the order of their names."""
    found = sorted((path.parent for path in parent.glob("*/device.toml")), key=lambda p: (len(p.name), p.name))
    if not 0 <= index < len(found):
        raise MissingError(f"{parent} holds {len(found)} devices; number {index} is not among them")
    return found[index]


def read_request(message: Message) -> tuple[RoundRequest, Tensor]:
    """Read a round's settings and the backbone (P,) from a message.

    Raises
    ------
    CompatibilityError
        If the backbone is of another architecture or does not fit the settings.
    ConfigError
        If a setting is missing or out of range.
    """
    content = message.content
    settings, arrays = content.get(SETTINGS), content.get(ARRAY)
    if not isinstance(settings, ConfigRecord) or not isinstance(arrays, ArrayRecord) or set(arrays) != {ARRAY}:
        raise CompatibilityError("the server's message is not a round request", hint="update easel on the older side")
    request = RoundRequest.from_values(dict(settings))
    expected = (_size(request),)
    array = arrays[ARRAY]
    if array.dtype != "float32" or tuple(array.shape) != expected:
        raise CompatibilityError(f"the server's backbone is {array.dtype} {tuple(array.shape)}")
    try:
        values = npy_copy(array.data)
    except ValueError as error:
        raise CompatibilityError(f"the server's backbone cannot be read: {error}") from error
    if values.dtype != np.float32 or values.shape != expected:
        raise CompatibilityError(f"the server's backbone holds {values.dtype} {values.shape}")
    return request, torch.from_numpy(values)


def participate(
    folder: Path,
    request: RoundRequest,
    vector: Tensor,
    *,
    simulated: bool = False,
    seen: int = 0,
    train: Trainer = local_training,
) -> RecordDict:
    """Spend the budget, train, and build the upload.

    Guarantees
    ----------
    The ledger holds the round's price before training starts, and the size of the upload before
    it is handed to the transport. The upload is one array with an L2 norm of at most
    ``request.clip``, its scale, a name of the ledger that means nothing outside this run, how often
    this device has taken part in it, with adaptive clipping one bit (whether the clip was long
    enough), and what the server already knows. Where noise is correlated over the rounds, no two
    rounds of a run are closer than its separation, by this device's own ledger.

    Assumes
    -------
    The policy was checked. The folder belongs to one device and one person. At unit ``"example"``
    what ``train`` returns is private already; at unit ``"user"`` nothing is asked of it.

    Edge cases
    ----------
    An update of zero is sent as zeros. A crash after the reservation leaves it spent.

    Raises
    ------
    BudgetError
        If the owner's budget would be passed; nothing was trained then.
    LedgerError
        If the request is a replay, or the ledger is not the latest one; nothing was trained then.
    TooSoonError
        If the device took part in this run too recently; nothing was trained then.
    EaselError
        If the folder cannot be used.
    """
    ledger, reservation, delta = _paid_update(folder, request, vector, simulated=simulated, seen=seen, train=train)
    values, scale = pack(delta, request, entropy=_coins(folder, request, simulated=simulated))
    reply = ConfigRecord({"protocol": PROTOCOL, "run": request.run, "round": request.round, "scale": float(scale)})
    reply.update({"ledger": reservation.tag, "entry": reservation.participation})
    if request.adaptive_clip:
        reply[WITHIN] = norm(delta) <= request.clip
    content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(values)}), REPLY: reply})
    nbytes = values.nbytes + 4 + int(request.adaptive_clip)
    ledger.sent(reservation, bytes_sent=nbytes, kind=_kind(request))
    ledger.commit(reservation)
    return content


def _kind(request: RoundRequest) -> str:
    """Say for the owner what was sent."""
    part = "" if request.top_k == 1.0 else f", largest {100 * request.top_k:g} % of its numbers"
    return f"clipped update, {request.upload}{part}"


def _paid_update(
    folder: Path, request: RoundRequest, vector: Tensor, *, simulated: bool, train: Trainer, seen: int = 0
) -> tuple[Ledger, Reservation, Tensor]:
    """Reserve the round's privacy, then train; the update is not clipped yet."""
    backbone = blank_backbone(request.model)
    unflatten(backbone, vector)
    device = load_device(folder)
    ledger = _ledger(folder, simulated=simulated)
    reservation = ledger.reserve(
        request.run,
        request.round,
        mechanism=request.price,
        steps=request.local_steps if request.unit == "example" else 1,
        separation=request.min_separation if request.factorized else 0,
        attempt=request.attempt,
        seen=seen,
    )
    return ledger, reservation, train(backbone, folder, request, seed=round_seed(request, device.seed))


def _secure_reply(folder: Path, message: Message, *, simulated: bool, train: Trainer, log: Logger) -> RecordDict:
    """Answer one stage of secure aggregation; only ``masked`` carries anything of the device's data.

    Guarantees
    ----------
    As :func:`participate`, and one masked update per round of a run at most, whatever is repeated.
    """
    values = dict(message.content.config_records[SECURE])
    settings = message.content.get(SETTINGS)
    stage = Stage(
        name=str(values.pop("stage", "")),
        attempt=str(values.pop("attempt", "")),
        values=values,
        request=RoundRequest.from_values(dict(settings)) if isinstance(settings, ConfigRecord) else None,
    )
    started: list[int] = []
    paid: list[tuple[Ledger, Reservation]] = []

    def trained() -> Tensor:
        started.append(1)
        request, vector = read_request(message)
        _refuse_a_second_sum(folder, request, simulated=simulated)
        ledger, reservation, delta = _paid_update(folder, request, vector, simulated=simulated, train=train)
        paid.append((ledger, reservation))
        return delta

    coins = _coins(folder, stage.request, simulated=simulated) if stage.request else os.urandom
    policy = load_policy(folder, simulated=simulated)
    try:
        found = answer(folder, stage, policy=policy, size=_size, train=trained, coins=coins)
    except PrivacyError as error:
        if started:
            raise
        raise _Refused(error.message, hint=error.hint) from error
    reply = ConfigRecord({"protocol": PROTOCOL, "run": found.run, "round": found.round})
    reply.update({"stage": stage.name, "attempt": stage.attempt, **found.values})
    content = RecordDict({REPLY: reply})
    if found.words is not None:
        content[ARRAY] = ArrayRecord({ARRAY: Array(found.words)})
        for ledger, reservation in paid:
            ledger.sent(reservation, bytes_sent=found.words.nbytes, kind=_MASKED)
            ledger.commit(reservation)
    log.info("round %d of run %s: secure stage %s answered", found.round, found.run, stage.name)
    return content


def _size(request: RoundRequest) -> int:
    """Return the length of an update, refusing a backbone of another architecture."""
    if request.architecture != architecture_hash(request.model):
        raise CompatibilityError(
            "the server's backbone is of another architecture", hint="update easel on the older side"
        )
    return size(request.model)


def _refuse_a_second_sum(folder: Path, request: RoundRequest, *, simulated: bool) -> None:
    path = folder / LEDGER
    sent = _ledger(folder, simulated=simulated).entries() if path.exists() else ()
    if any((entry.run, entry.round, entry.kind) == (request.run, request.round, _MASKED) for entry in sent):
        raise _Answered(f"this device has answered round {request.round} of run {request.run}")


def _coins(folder: Path, request: RoundRequest, *, simulated: bool) -> Entropy:
    """Return where rounding takes its coins from; a simulated device repeats itself, nothing rests on them."""
    return np.random.default_rng(round_seed(request, load_device(folder).seed)).bytes if simulated else os.urandom


def pack(
    delta: Tensor, request: RoundRequest, *, entropy: Entropy = os.urandom
) -> tuple[npt.NDArray[np.int8] | npt.NDArray[np.float16] | npt.NDArray[np.uint8], float]:
    """Clip an update and make it small: int8 or float16 numbers and their common scale.

    Where a round asks for a share of the numbers only (``top_k``), the largest: bytes that say where they stand
    (:mod:`shared_model.sparse`), then the numbers. How many bytes there are depends on the request alone.

    Guarantees
    ----------
    ``values * scale`` (float32), zeros where nothing is sent, has an L2 norm of at most ``request.clip``.
    """
    clipped = clip(delta, bound=request.clip)
    if request.top_k == 1.0 or not len(clipped):
        return _numbers(clipped, request, entropy)
    places = largest(clipped, share=request.top_k)
    numbers, scale = _numbers(clipped[places], request, entropy)
    head = pack_positions(places.numpy(), size=len(clipped))
    return np.concatenate([head, np.frombuffer(numbers.tobytes(), np.uint8)]), scale


def _numbers(
    clipped: Tensor, request: RoundRequest, entropy: Entropy
) -> tuple[npt.NDArray[np.int8] | npt.NDArray[np.float16], float]:
    """Round clipped numbers to the round's format."""
    if request.upload == "int8":
        packed = quantize(clipped, bound=request.clip, entropy=entropy)
        return packed.values.numpy(), packed.scale
    largest = float(clipped.abs().max()) if len(clipped) else 0.0
    if largest == 0.0:
        return np.zeros(len(clipped), np.float16), 0.0
    values = (clipped / largest).numpy().astype(np.float16)
    scale = float(np.float32(largest))
    while norm(torch.from_numpy(values.astype(np.float32)) * scale) > request.clip:
        scale = float(np.nextafter(np.float32(scale * (1 - 1e-7)), np.float32(0.0)))
    return values, scale


#: What a device runs.
app = make_app()
