"""One round, in numbers that an operator may see: counts and reasons, nothing from the data."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shared_model.config import parse

__all__ = ["RoundReport", "bounded", "shown", "to_csv"]

COLUMNS = (
    "round",
    "asked",
    "accepted",
    "dropped",
    "reasons",
    "released",
    "epsilon",
    "run_epsilon",
    "clip",
    "within",
    "update_norm",
    "bytes_down",
    "bytes_up",
    "seconds",
    "staleness",
)


@dataclass(frozen=True)
class RoundReport:
    """What happened in a round.

    Parameters
    ----------
    round
        Its number, from 1.
    asked, accepted
        Devices asked, and replies that were summed.
    reasons
        How many were dropped, by reason.
    released
        Whether the backbone moved; ``False`` when too few replies came (the round was skipped).
    epsilon
        Privacy spent after this round; of the *nominal* fleet in a simulation. ``None``: unbounded.
    run_epsilon
        What this very run guarantees; differs from ``epsilon`` only in a simulation with rescaled
        noise. ``None``: unbounded.
    clip
        L2 bound that this round's updates were cut to, and that scaled its noise.
    within
        Noised share of updates within it, which moved the clip of the next round; noise can carry
        it below 0 or above 1. ``None`` without adaptive clipping and in a skipped round.
    update_norm
        L2 norm of the noisy average.
    bytes_down, bytes_up
        Payload of all requests and of all replies, in bytes.
    seconds
        Wall time.
    staleness
        Buffered: mean number of releases that the accepted updates were late; else ``None``.
    """

    round: int
    asked: int = 0
    accepted: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    released: bool = False
    epsilon: float | None = None
    run_epsilon: float | None = None
    clip: float = 0.0
    within: float | None = None
    update_norm: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    staleness: float | None = None

    @property
    def dropped(self) -> int:
        """Devices asked whose reply was not summed."""
        return sum(self.reasons.values())

    def line(self, *, rounds: int) -> str:
        """Say in one line what happened."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        parts = [
            f"round {self.round}/{rounds}: {self.accepted} of {self.asked} accepted",
            f"dropped {dropped}" if dropped else "",
            "" if self.released else "skipped: too few updates",
            f"epsilon {shown(self.epsilon)}",
            "" if self.within is None else f"clip {self.clip:.3g}",
            f"{self.seconds:.1f} s",
        ]
        return ", ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RoundReport:
        """Read what :meth:`to_dict` wrote."""
        return parse(values, cls, source="round report")


def bounded(epsilon: float) -> float | None:
    """Return epsilon, or ``None`` where there is no bound (JSON has no infinity)."""
    return epsilon if math.isfinite(epsilon) else None


def shown(epsilon: float | None) -> str:
    """Return epsilon as people read it."""
    return "unbounded" if epsilon is None else f"{epsilon:.3g}"


def to_csv(reports: Sequence[RoundReport]) -> str:
    """Return one line per round, with a header."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(report.reasons.items()))
        row = {**report.to_dict(), "dropped": report.dropped, "reasons": reasons, "released": int(report.released)}
        row |= {name: "" for name in ("within", "staleness") if row[name] is None}
        writer.writerow(["unbounded" if row[name] is None else _short(row[name]) for name in COLUMNS])
    return stream.getvalue()


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
