"""What an owner likes, learned from choices: one small file per head, never uploaded.

A :class:`Preferences` is a frozen state with pure functions: :meth:`Preferences.propose` says what to show next,
:meth:`Preferences.choose` takes the answer in, :meth:`Preferences.best` says what the owner should like most. The
same state and seed give the same proposals. The mathematics is in :mod:`client.taste`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from client.taste import Pick, Points, Taste
from shared_model.config import parse
from shared_model.errors import ConfigError, InputError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["FORMAT", "KNOBS", "MAX_ANSWERS", "MAX_SHOWN", "Answer", "Knob", "Manner", "Preferences"]

FORMAT = "easel-preferences-1"
MAX_ANSWERS = 100  # the newest are kept
MAX_SHOWN = 12
_LIMIT = 1 << 20  # bytes of a file


@dataclass(frozen=True)
class Knob:
    """One thing that can differ between two paintings of one photo by one head.

    Attributes
    ----------
    name
        Field of :class:`Manner`.
    low, high
        Range that is searched.
    kind
        ``linear``, ``log`` or ``switch``.
    """

    name: str
    low: float
    high: float
    kind: str = "linear"

    def encode(self, value: float) -> float:
        """Return the place of ``value`` in [0, 1]."""
        low, high, at = (self._straight(x) for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def decode(self, place: float) -> float:
        """Return the value at ``place``, rounded to what makes a difference."""
        low, high = self._straight(self.low), self._straight(self.high)
        at = low + place * (high - low)
        if self.kind == "switch":
            return float(place >= 0.5)
        return round(math.exp(at) if self.kind == "log" else at, 2)

    def _straight(self, value: float) -> float:
        return math.log(max(value, 1e-3)) if self.kind == "log" else float(value)


KNOBS = (
    Knob("strength", 0.4, 1.0),
    Knob("detail", 0.0, 1.0),
    Knob("keep_color", 0.0, 1.0, "switch"),
    Knob("brush", 0.6, 2.0, "log"),
    Knob("roughness", 0.0, 2.5),
    Knob("hand", 0.0, 1.4),
    Knob("share", 0.0, 0.7),
)


@dataclass(frozen=True)
class Manner:
    """One setting of all knobs; the defaults paint as the head was made.

    Parameters
    ----------
    strength, detail, keep_color
        As in :class:`shared_model.stylize.Options`.
    brush, roughness, hand
        As in :class:`shared_model.look.Look`.
    share
        How much of the partner head is mixed in, 0 to 0.9.
    """

    strength: float = 1.0
    detail: float = 0.5
    keep_color: bool = False
    brush: float = 1.0
    roughness: float = 1.0
    hand: float = 1.0
    share: float = 0.0

    def __post_init__(self) -> None:
        ranges = {"strength": 1.0, "detail": 1.0, "brush": 2.0, "roughness": 3.0, "hand": 2.0, "share": 0.9}
        for name, high in ranges.items():
            low = 0.5 if name == "brush" else 0.0
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {getattr(self, name)!r}")

    def __str__(self) -> str:
        words = [f"strength {self.strength:g}", f"detail {self.detail:g}", f"brush {self.brush:g}"]
        words += [f"roughness {self.roughness:g}", f"hand {self.hand:g}"]
        words += ["the photo's colors"] if self.keep_color else []
        return ", ".join(words + ([f"mix {self.share:g}"] if self.share else []))


@dataclass(frozen=True)
class Answer:
    """What was shown, and which of it the owner liked, best first."""

    shown: tuple[Manner, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        known = set(range(len(self.shown)))
        if not 2 <= len(self.shown) <= MAX_SHOWN:
            raise InputError(f"2 to {MAX_SHOWN} candidates can be compared, not {len(self.shown)}")
        if not self.order or len(set(self.order)) != len(self.order) or not set(self.order) <= known:
            raise InputError(
                "a choice names one or more of the candidates shown, each once",
                hint=f"numbers from 1 to {len(self.shown)}, best first, such as 3 or 3,1",
            )


@dataclass(frozen=True)
class Preferences:
    """What is known of an owner's taste for one head.

    Parameters
    ----------
    answers
        The choices so far, oldest first.
    pending
        Candidates that were shown and wait for an answer.
    partner
        Head whose share is one of the knobs; empty: none.
    defaults
        What paintings with this head start from, if the owner said so.
    """

    answers: tuple[Answer, ...] = ()
    pending: tuple[Manner, ...] = ()
    partner: str = ""
    defaults: Manner | None = None

    def propose(self, count: int = 4, *, seed: int = 0) -> tuple[Manner, ...]:
        """Return candidates that differ: the best guess first, then ones that may be better.

        Raises
        ------
        InputError
            If ``count`` is not 2 to 12.
        """
        if not 2 <= count <= MAX_SHOWN:
            raise InputError(f"2 to {MAX_SHOWN} candidates can be shown, not {count}")
        points = self._taste().propose(count, seed=seed + 7919 * len(self.answers))
        return tuple(self._manner(point) for point in points)

    def choose(self, shown: tuple[Manner, ...], order: tuple[int, ...]) -> Preferences:
        """Return the state after a choice.

        Parameters
        ----------
        shown
            The candidates.
        order
            Indices of those that were liked, best first; they win over all others.

        Raises
        ------
        InputError
            If the indices make no sense.
        """
        answers = (*self.answers, Answer(shown, order))[-MAX_ANSWERS:]
        return replace(self, answers=answers, pending=())

    def with_partner(self, partner: str) -> Preferences:
        """Return the state that tries a share of the head ``partner`` too (empty: of none); what was shown is left.

        Raises
        ------
        InputError
            If choices were made with another partner, whose shares mean something else.
        """
        if partner == self.partner:
            return self
        if self.settled:
            raise InputError(
                f"choices were made with a share of {self.partner!r} already",
                hint="forget them to start anew, as easel prefer NAME --reset does",
            )
        return replace(self, partner=partner, pending=())

    @property
    def settled(self) -> bool:
        """Whether choices were made between shares of the partner, so that it cannot be another one."""
        return bool(self.partner) and any(one.share for answer in self.answers for one in answer.shown)

    def best(self) -> Manner:
        """Return what the owner should like most; without any choice the head's own manner."""
        return self._manner(self._taste().best()) if self.answers else Manner()

    def confidence(self) -> float:
        """Return how probable it is, in [0, 1], that the owner likes :meth:`best` better than the head's own manner."""
        taste = self._taste()
        return taste.odds(self._point(self.best()), taste.home)

    @classmethod
    def load(cls, path: Path) -> Preferences:
        """Read what :meth:`save` wrote; without a file nothing is known yet.

        Raises
        ------
        StorageError
            If the file is damaged, or of another version of easel.
        """
        if not path.exists():
            return cls()
        try:
            return cls._parse(json.loads(read_bytes(path, limit=_LIMIT)))
        except (ConfigError, InputError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StorageError(
                f"the preferences in {path} are damaged or of another version of easel",
                hint=f"easel prefer {path.stem} --reset forgets them",
            ) from error

    def save(self, path: Path) -> None:
        """Write the state, readable by its owner alone.

        Raises
        ------
        StorageError
            If it cannot be written; the older state is then untouched.
        """
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        write_atomic(path, (json.dumps(content, indent=1) + "\n").encode(), mode=0o600)

    @classmethod
    def _parse(cls, content: Any) -> Preferences:
        if content["format"] != FORMAT or not isinstance(content["partner"], str) or len(content["partner"]) > 64:
            raise ValueError("unknown format")
        answers = [
            Answer(_manners(entry["shown"]), tuple(int(index) for index in entry["order"]))
            for entry in content["answers"][-MAX_ANSWERS:]
        ]
        defaults = content["defaults"]
        return cls(
            answers=tuple(answers),
            pending=_manners(content["pending"]),
            partner=content["partner"],
            defaults=None if defaults is None else parse(defaults, Manner, source="preferences"),
        )

    def _knobs(self) -> tuple[Knob, ...]:
        return KNOBS if self.partner else tuple(knob for knob in KNOBS if knob.name != "share")

    def _taste(self) -> Taste:
        switches = tuple(column for column, knob in enumerate(self._knobs()) if knob.kind == "switch")
        picks = tuple(
            Pick(np.stack([self._point(manner) for manner in answer.shown]), answer.order) for answer in self.answers
        )
        return Taste(self._point(Manner()), switches, picks)

    def _point(self, manner: Manner) -> Points:
        return np.array([knob.encode(float(getattr(manner, knob.name))) for knob in self._knobs()])

    def _manner(self, point: Points) -> Manner:
        values = {knob.name: knob.decode(float(place)) for knob, place in zip(self._knobs(), point, strict=True)}
        return Manner(**{name: bool(value) if name == "keep_color" else value for name, value in values.items()})  # type: ignore[arg-type]


def _manners(entries: Any) -> tuple[Manner, ...]:
    if not isinstance(entries, list) or len(entries) > MAX_SHOWN:
        raise ValueError("wrong candidates")
    return tuple(parse(entry, Manner, source="preferences") for entry in entries)
