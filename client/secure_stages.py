"""Which stage of a securely aggregated round a message is, and what a device answers to it.

Plain values in, plain values out: `client.app` reads and builds the messages.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from client import secure
from client.policy import Policy
from client.secure_state import Memory
from shared_model.errors import FederationError
from shared_model.messages import RoundRequest
from shared_model.noise import Entropy
from shared_model.secure_sum import Words
from shared_model.secure_terms import STAGES, SecureTerms

__all__ = ["Answer", "Stage", "answer"]

Value = str | int | float | bytes | list[int] | list[bytes]


@dataclass(frozen=True, eq=False)
class Stage:
    """One message of the server.

    Attributes
    ----------
    name
        One of :data:`shared_model.secure_terms.STAGES`.
    attempt
        Which attempt at the round it belongs to.
    values
        The stage's own values.
    request
        The round's settings; in the stages ``keys`` and ``masked`` only.
    """

    name: str
    attempt: str
    values: Mapping[str, object]
    request: RoundRequest | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What goes back: the round it is for, the stage's own values, and in ``masked`` the vector."""

    run: str
    round: int
    values: dict[str, Value] = field(default_factory=dict)
    words: Words | None = None


def answer(
    folder: Path,
    stage: Stage,
    *,
    policy: Policy,
    size: Callable[[RoundRequest], int],
    train: Callable[[], Tensor],
    coins: Entropy = os.urandom,
) -> Answer:
    """Answer one stage; the device's other processes wait meanwhile.

    Parameters
    ----------
    folder
        The device folder.
    stage
        What the server said.
    policy
        What the owner allows; checked in the stage ``keys``, and later stages must not differ.
    size
        Length of the update that a request asks for.
    train
        Pays for and makes the update.
    coins
        By which the update is rounded (:func:`client.secure.mask`).

    Raises
    ------
    FederationError
        If the message does not fit the stage that this device is in.
    PrivacyError
        If it goes beyond what the owner allows.
    """
    if stage.name not in STAGES:
        raise FederationError(f"there is no stage {stage.name!r}", hint="update easel on the older side")
    memory = Memory(folder)
    with memory.locked():
        if stage.name == "keys":
            return _keys(memory, stage, policy=policy, size=size)
        state = memory.load()
        if state is None or state.attempt != stage.attempt:
            raise FederationError("this device is not in that attempt")
        least = policy.min_secure_peers
        if stage.name == "shares":
            values = _shares(memory, stage, least=least)
            return Answer(state.run, state.round, values)
        if stage.name == "masked":
            return _masked(memory, stage, least=least, size=size, train=train, coins=coins)
        survivors = _integers(stage.values, "survivors")
        about, shares = secure.open_round(memory, attempt=stage.attempt, survivors=survivors, least_peers=least)
        return Answer(state.run, state.round, {"about": about, "shares": shares})


def _keys(memory: Memory, stage: Stage, *, policy: Policy, size: Callable[[RoundRequest], int]) -> Answer:
    request, terms = _agreed(stage)
    parameters = size(request)
    policy.check(request, parameters=parameters, secure=terms)
    terms.ring(size=parameters, clip=request.clip)
    mask_key, seal_key = secure.offer(memory, request, terms, digest=_digest(request, terms))
    return Answer(request.run, request.round, {"mask_key": mask_key, "seal_key": seal_key})


def _shares(memory: Memory, stage: Stage, *, least: int) -> dict[str, Value]:
    hello = secure.Hello(
        index=_integer(stage.values, "index"),
        holders=_integers(stage.values, "holders"),
        mask_keys=_strings(stage.values, "mask_keys"),
        seal_keys=_strings(stage.values, "seal_keys"),
    )
    sealed, promise = secure.hand_out(memory, hello, attempt=stage.attempt, least_peers=least)
    return {"sealed": sealed, "promise": promise}


def _masked(
    memory: Memory,
    stage: Stage,
    *,
    least: int,
    size: Callable[[RoundRequest], int],
    train: Callable[[], Tensor],
    coins: Entropy,
) -> Answer:
    request, terms = _agreed(stage)
    words = secure.mask(
        memory,
        terms.ring(size=size(request), clip=request.clip),
        attempt=stage.attempt,
        digest=_digest(request, terms),
        sources=_integers(stage.values, "sources"),
        sealed=_strings(stage.values, "sealed"),
        least_peers=least,
        train=train,
        coins=coins,
    )
    return Answer(request.run, request.round, words=words)


def _agreed(stage: Stage) -> tuple[RoundRequest, SecureTerms]:
    """Return settings and terms of a stage that carries both."""
    if stage.request is None:
        raise FederationError("the server sent no settings")
    names = ("capacity", "needed", "colluding", "sum_noise")
    values = {name: stage.values[name] for name in names if name in stage.values}
    return stage.request, SecureTerms.from_values({**values, "attempt": stage.attempt})


def _digest(request: RoundRequest, terms: SecureTerms) -> str:
    """Identify all that was agreed on in the first stage."""
    text = json.dumps([request.to_values(), terms.to_values()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _integer(values: Mapping[str, object], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FederationError(f"the server's {key} is not a number")
    return value


def _integers(values: Mapping[str, object], key: str) -> list[int]:
    found = values.get(key)
    if not isinstance(found, list) or not all(isinstance(item, int) for item in found):
        raise FederationError(f"the server's {key} is not a list of numbers")
    return found


def _strings(values: Mapping[str, object], key: str) -> list[bytes]:
    found = values.get(key)
    if not isinstance(found, list) or not all(isinstance(item, bytes) for item in found):
        raise FederationError(f"the server's {key} is not a list of byte strings")
    return found
