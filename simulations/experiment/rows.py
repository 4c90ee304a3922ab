"""The rows of a trial: what is known after each round, saved before anything else happens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from server.report import RoundReport
from simulations.experiment.folder import Facts, plain, read_facts, write_facts

__all__ = ["Log", "Row", "reported", "spread"]

#: What is known after one round: plain values by name.
Row = Mapping[str, Any]


class Log:
    """The rows of a trial, saved after each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Facts] = list(read_facts(path)["rows"]) if path.is_file() else []

    @property
    def last(self) -> int:
        """The last round that has a row; -1: none, not even that of the start."""
        return int(self.rows[-1]["round"]) if self.rows else -1

    def add(self, row: Row) -> None:
        """Add a row and save."""
        self.rows.append(plain(row))
        write_facts(self._path, {"rows": self.rows})


def reported(report: RoundReport | None) -> Facts:
    """Return what the server says of a round; nothing where none took part."""
    if report is None:
        return {}
    names = ("asked", "accepted", "epsilon", "run_epsilon", "clip", "update_norm", "bytes_down", "bytes_up", "seconds")
    return {name: getattr(report, name) for name in names} | {"dropped": dict(report.reasons)}


def spread(losses: Sequence[float]) -> dict[str, Any]:
    """Return the mean over devices, and that of the worst tenth (at least one device)."""
    known = sorted(value for value in losses if math.isfinite(value))
    if not known:
        return {}
    worst = known[-max(1, round(len(known) / 10)) :]
    return {"personal": sum(known) / len(known), "worst": sum(worst) / len(worst)}
