"""What the daemon answers, as Python values and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from protos import studio_pb2 as pb
from shared_model import errors
from shared_model.errors import EaselError

__all__ = ["CallError", "Head", "Manner", "Painting", "Progress", "Taste", "head_of", "raise_it", "taste_of"]


class CallError(EaselError):
    """A call failed for another reason than a mistake in what was asked.

    Attributes
    ----------
    code
        gRPC's, such as ``UNAVAILABLE``, ``CANCELLED``, ``DEADLINE_EXCEEDED`` or ``RESOURCE_EXHAUSTED``.
    retry_after_s
        With ``RESOURCE_EXHAUSTED``: when to try again.
    """

    def __init__(self, message: str, *, hint: str = "", code: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Progress:
    """Where a call stands: a stage such as ``queued``, the fraction done, jobs ahead, the loss while tuning."""

    stage: str
    fraction: float
    ahead: int
    loss: float


@dataclass(frozen=True)
class Painting:
    """A painted picture file, its size in pixels, how it was made, and the seconds of work."""

    data: bytes
    width: int
    height: int
    format: str
    settings: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Head:
    """What the daemon tells about a head; ``damage`` is empty for one that can be used."""

    name: str
    shipped: bool
    size_bytes: int
    images: int
    created: str
    backbone: str
    matches: bool
    damage: str


@dataclass(frozen=True)
class Manner:
    """One way of painting with a head: options, look, and the share of a partner head."""

    strength: float = 1.0
    detail: float = 0.5
    keep_color: bool = False
    brush: float = 1.0
    roughness: float = 1.0
    hand: float = 1.0
    share: float = 0.0


@dataclass(frozen=True)
class Taste:
    """What is known of an owner's taste for a head.

    Attributes
    ----------
    choices
        How many so far.
    candidates
        What to show next, where that was asked for.
    best, confidence
        What the owner should like most (``None``: no choice yet), and how probably it is liked better than the head as
        it was made.
    applied
        How the head paints; ``None``: as it was made.
    partner
        Head whose share is tried too; empty: none.
    """

    head: str
    choices: int
    candidates: tuple[Manner, ...]
    best: Manner | None
    confidence: float
    applied: Manner | None
    partner: str


def head_of(message: Any) -> Head:
    """Return a head from its message."""
    return Head(**{field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields})


def taste_of(message: Any) -> Taste:
    """Return a taste from its message."""

    def manner(told: Any) -> Manner:
        return Manner(**{field.name: getattr(told, field.name) for field in pb.Manner.DESCRIPTOR.fields})

    return Taste(
        head=message.head,
        choices=message.choices,
        candidates=tuple(manner(told) for told in message.candidates),
        best=manner(message.best) if message.HasField("best") else None,
        confidence=message.confidence,
        applied=manner(message.applied) if message.HasField("applied") else None,
        partner=message.partner,
    )


def raise_it(error: Any) -> NoReturn:
    """Raise what the daemon met."""
    code = error.code().name
    told = {key: value for key, value in error.trailing_metadata() or ()}
    hint = bytes(told.get("easel-hint-bin", b"")).decode("utf-8", "replace")
    message = (error.details() or "no reason given").removesuffix(f" (hint: {hint})")
    kind = getattr(errors, str(told.get("easel-error", "")), None)
    if isinstance(kind, type) and issubclass(kind, EaselError) and kind is not EaselError:
        raise kind(message, hint=hint) from None
    if code == "UNAVAILABLE" and not hint:
        hint = "is the daemon still running? easel serve --status"
    wait_s = int(told.get("easel-retry-after-ms", "0")) / 1000
    raise CallError(message, hint=hint, code=code, retry_after_s=wait_s) from None
