"""What is said about a release, as documents that can be signed: manifests, orders, changes of the key.

A **manifest** describes one release of the backbone and never changes. An **order** says which release a fleet uses
from now on; each has a sequence number of its own, so an old order cannot be used again. A **key change** names the
next signing key. All are canonical JSON: one document has one spelling, so its bytes can be signed and compared.
Pure: no files, no network, no cryptography.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared_model.config import parse
from shared_model.errors import ConfigError, ReleaseError

__all__ = ["ACTIONS", "MAX_WEIGHTS", "UNITS", "KeyChange", "Manifest", "Order", "canonical", "decode"]

MAX_WEIGHTS = 64 << 20  # bytes of a weights file
UNITS = ("user", "example", "public")
ACTIONS = ("promote", "rollback")
_LIMIT = 64 << 10  # bytes of a document
_TEXT = 200  # letters of a reason

T = TypeVar("T", "Manifest", "Order", "KeyChange")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _hex(text: str, digits: int) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None


def _check_time(text: str) -> None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    _require(moment is not None and moment.tzinfo is not None, f"created must be a time with a zone, not {text!r}")


@dataclass(frozen=True)
class Manifest:
    """One release.

    Parameters
    ----------
    version
        1, 2, 3 ... in the order in which a fleet's releases were made.
    parent
        The version it was compared with; 0: the backbone that easel ships.
    backbone, architecture
        :func:`shared_model.weights.backbone_id` and ``architecture_hash`` of the weights.
    run, round
        The federated run and its completed rounds; empty and 0 for public training.
    unit
        What the privacy promise protects: ``user``, ``example``, or ``public`` (trained on public pictures only).
    epsilon, delta
        What this run has spent; ``None``: without a bound.
    total_epsilon, total_delta
        The same summed over all runs that the fleet has released so far (basic composition).
    sha256, size
        Of the weights file.
    evaluation
        Figures of the trial before promotion (:mod:`server.trial`).
    created
        ISO 8601 with a zone.
    """

    version: int
    parent: int
    backbone: str
    architecture: str
    run: str
    round: int
    unit: str
    epsilon: float | None
    delta: float
    total_epsilon: float | None
    total_delta: float
    sha256: str
    size: int
    created: str
    evaluation: Mapping[str, float] = field(default_factory=dict)
    format: str = "easel-release-1"

    def __post_init__(self) -> None:
        _require(self.format == "easel-release-1", f"format {self.format!r} is not known")
        _require(1 <= self.version < 1 << 31, f"version must be 1 or more, not {self.version}")
        _require(0 <= self.parent < self.version, f"parent must be below version {self.version}, not {self.parent}")
        _require(_hex(self.backbone, 12) and _hex(self.architecture, 12), "backbone and architecture are 12 hex digits")
        _require(self.run == "" or _hex(self.run, 12), f"run must be empty or 12 hex digits, not {self.run!r}")
        _require(0 <= self.round < 1 << 31, f"round must not be negative, not {self.round}")
        _require(self.unit in UNITS, f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        _require((self.unit == "public") == (self.run == ""), "a public release has no run, every other one has")
        for name in ("epsilon", "total_epsilon"):
            value = getattr(self, name)
            _require(value is None or (math.isfinite(value) and value >= 0), f"{name} must be finite and not negative")
        for name in ("delta", "total_delta"):
            _require(0.0 <= getattr(self, name) < 1.0, f"{name} must be from 0 to below 1")
        _require(_hex(self.sha256, 64), "sha256 must be 64 hex digits")
        _require(self.size >= 1, f"size must be positive, not {self.size}")
        for name, figure in self.evaluation.items():
            value = figure if type(figure) in (int, float) else math.nan  # JSON may hold anything
            _require(math.isfinite(value) and len(name) <= 64, f"evaluation {name!r} must be a finite number")
        _check_time(self.created)


@dataclass(frozen=True)
class Order:
    """Which release the fleet uses from now on.

    Parameters
    ----------
    sequence
        1, 2, 3 ... over all orders of a fleet, promotions and rollbacks alike.
    action
        ``promote`` (never to an older version) or ``rollback``.
    version, manifest
        The release, and the SHA-256 of its manifest's bytes.
    previous
        The version that was in use before; 0: none.
    created
        ISO 8601 with a zone.
    reason
        For people, 200 letters at most.
    """

    sequence: int
    action: str
    version: int
    manifest: str
    previous: int
    created: str
    reason: str = ""
    format: str = "easel-order-1"

    def __post_init__(self) -> None:
        _require(self.format == "easel-order-1", f"format {self.format!r} is not known")
        _require(1 <= self.sequence < 1 << 53, f"sequence must be 1 or more, not {self.sequence}")
        _require(self.action in ACTIONS, f"action must be one of {', '.join(ACTIONS)}, not {self.action!r}")
        _require(self.version >= 1 and self.previous >= 0, "versions are 1 or more")
        _require(_hex(self.manifest, 64), "manifest must be 64 hex digits")
        _require(len(self.reason) <= _TEXT and self.reason.isprintable(), f"a reason has {_TEXT} letters at most")
        _check_time(self.created)


@dataclass(frozen=True)
class KeyChange:
    """The next signing key; signed by the one before, which is worth nothing afterwards.

    Parameters
    ----------
    old
        Id of the key that signs this.
    key
        The new public key, 64 hex digits.
    created
        ISO 8601 with a zone.
    """

    old: str
    key: str
    created: str
    format: str = "easel-key-1"

    def __post_init__(self) -> None:
        _require(self.format == "easel-key-1", f"format {self.format!r} is not known")
        _require(_hex(self.old, 16) and _hex(self.key, 64), "old has 16 hex digits, key has 64")
        _check_time(self.created)


def canonical(document: Manifest | Order | KeyChange) -> bytes:
    """Return the one spelling of a document: sorted keys, no spaces, ASCII, no NaN."""
    return _spell(dataclasses.asdict(document))


def _spell(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def decode(body: bytes, kind: type[T]) -> T:
    """Read a document, in its canonical spelling only.

    Raises
    ------
    ReleaseError
        If it is anything else (reason ``malformed``).
    """
    name = {"KeyChange": "key change"}.get(kind.__name__, kind.__name__.lower())
    try:
        if len(body) > _LIMIT:
            raise ValueError(f"longer than {_LIMIT} bytes")
        values = json.loads(body.decode("ascii"))
        if not isinstance(values, dict) or _spell(values) != body:
            raise ValueError("not in its canonical spelling")
        return parse(values, kind, source=name)
    except (ConfigError, ValueError, RecursionError) as error:
        raise ReleaseError(
            f"the {name} cannot be read: {error}",
            hint="server and device must run easel versions that fit",
            reason="malformed",
        ) from error
