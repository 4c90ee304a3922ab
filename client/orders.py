"""What can be asked of the painter as a service, and what comes back: checked values, no work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from client.personalize import check_budget
from client.store import check_name
from shared_model.errors import InputError
from shared_model.stylize import Options

__all__ = ["FORMATS", "HeadFacts", "Lesson", "Made", "Order", "Painted"]

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
class Order:
    """One photo to paint: with which head, how, and in which of `FORMATS`."""

    head: str
    options: Options
    format: str = "png"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            offered = ", ".join(name for name in FORMATS if name)
            raise InputError(f"{self.format!r} is not a format to paint in", hint=f"one of {offered}")


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
    """A head to make: its name, seconds of tuning (0: fit only), and whether it replaces one of that name."""

    name: str
    budget_s: float = 20.0
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        check_budget(self.budget_s)
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
