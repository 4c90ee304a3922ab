"""A ledger with a price that is easy to follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from client.ledger import Ledger
from shared_model.mechanism import Mechanism

USER = Mechanism(2.0, 0.1, "user")


def per_step(history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
    """Account 1 per step (more with less noise): quick and easy to follow."""
    return sum(
        math.inf if mechanism.noise_multiplier == 0 else steps * 2.0 / mechanism.noise_multiplier
        for mechanism, steps in history
    )


def make(path: Path, *, max_epsilon: float = 100.0) -> Ledger:
    return Ledger.open(
        path / "ledger.json",
        max_epsilon=max_epsilon,
        delta=1e-5,
        account=per_step,
        clock=lambda: datetime(2026, 5, 4, 12, 30, tzinfo=timezone(timedelta(hours=2))),
    )
