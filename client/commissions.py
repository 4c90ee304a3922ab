"""What can be asked of the painter as a service, and what comes back: checked values, no work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from client.order import Order
from client.personalize import check_budget, check_strokes
from client.store import Home, check_name
from shared_model.errors import InputError
from shared_model.mix import shares

__all__ = ["FORMATS", "Commission", "HeadFacts", "Lesson", "Made", "Painted"]

#: What a painting can be asked for in, and the suffix that means it.
FORMATS: Mapping[str, str] = {
    "": ".png",
    "png": ".png",
    "jpg": ".jpg",
    "jpeg": ".jpg",
    "webp": ".webp",
    "tiff": ".tiff",
}
MAX_BUDGET_S = 600.0


@dataclass(frozen=True)
class Commission:
    """One photo to paint.

    Attributes
    ----------
    heads
        Names and weights; one entry for a single head.
    given
        Fields of :class:`shared_model.stylize.Options` and :class:`shared_model.look.Look` that were asked for.
    format
        One of `FORMATS`.
    plain
        Leave the owner's preferences aside.
    """

    heads: tuple[tuple[str, float], ...]
    given: Mapping[str, object] = field(default_factory=dict)
    format: str = "png"
    plain: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            offered = ", ".join(name for name in FORMATS if name)
            raise InputError(f"{self.format!r} is not a format to paint in", hint=f"one of {offered}")
        if not self.heads or not all(name for name, _ in self.heads):
            raise InputError("which head?", hint="ask for the list of heads")
        shares([weight for _, weight in self.heads])

    def check(self, home: Home) -> None:
        """Refuse what cannot be painted before a photo is sent.

        Raises
        ------
        MissingError
            If there is no such head.
        InputError
            If a value is out of range.
        """
        for name, _ in self.heads:
            home.find(name)
        self.order(home)

    def order(self, home: Home) -> Order:
        """Return what it means in this home; raises like ``Order.of``."""
        return Order.of(home, self.heads, given=self.given, plain=self.plain)


@dataclass(frozen=True)
class Painted:
    """A painting: the file's bytes, its size in pixels, what it carries, and the seconds of work."""

    data: bytes
    width: int
    height: int
    format: str
    settings: str
    seconds: float


@dataclass(frozen=True)
class Lesson:
    """A head to make: its name, seconds of tuning (0: fit only), its strokes, whether it replaces one of that name."""

    name: str
    budget_s: float = 20.0
    seed: int = 0
    overwrite: bool = False
    strokes: str = "fine"

    def __post_init__(self) -> None:
        check_name(self.name)
        check_budget(self.budget_s)
        check_strokes(self.strokes)
        if self.budget_s > MAX_BUDGET_S:
            raise InputError(f"a daemon tunes for at most {MAX_BUDGET_S:g} seconds", hint="use easel personalize")
        if not 0 <= self.seed < 1 << 31:
            raise InputError(f"seed must be between 0 and {(1 << 31) - 1}, not {self.seed}")


@dataclass(frozen=True)
class HeadFacts:
    """What can be told about a head; ``damage`` is empty for one that can be used."""

    name: str
    shipped: bool
    size_bytes: int
    images: int = 0
    created: str = ""
    backbone: str = ""
    matches: bool = False
    damage: str = ""


@dataclass(frozen=True)
class Made:
    """A head that was made: its facts, the losses (``nan``: not tuned), the seconds, and pictures left out."""

    head: HeadFacts
    before: float
    after: float
    seconds: float
    skipped: int
