"""What a ledger's entries cost, and how they are told to their owner."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from client.ledger_book import Book, Entry
from shared_model.mechanism import UNITS, Mechanism

__all__ = ["Accountant", "losses", "prv", "summary", "tag", "total_loss"]


class Accountant(Protocol):
    """Bounds the loss of a history; :func:`shared_model.privacy.epsilon` outside tests."""

    def __call__(self, history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
        """Return an upper bound on epsilon at ``delta``; 0 for an empty history."""


def prv(history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
    """Account with PRV; imported here, so that a device that only reads need not load opacus early."""
    from shared_model.privacy import epsilon

    return epsilon(history, delta=delta)


def losses(book: Book, *, account: Accountant) -> dict[str, float]:
    """Return epsilon per unit that has entries, each at its share of delta."""
    units = [unit for unit in UNITS if any(entry.unit == unit for entry in book.entries)]
    return {unit: account(_history(book.entries, unit), delta=book.delta / len(units)) for unit in units}


def total_loss(book: Book, *, account: Accountant) -> float:
    """Return the sum over units; at least the limit where something is known to be missing."""
    total = sum(losses(book, account=account).values())
    return max(total, book.max_epsilon) if book.incomplete else total


def summary(book: Book, *, account: Accountant) -> dict[str, Any]:
    """Describe the ledger in plain values for JSON; an infinite number is None."""
    by_unit = losses(book, account=account)
    total = total_loss(book, account=account)
    kinds = sorted({entry.kind for entry in book.entries if entry.kind})
    return {
        "max_epsilon": _plain(book.max_epsilon),
        "delta": book.delta,
        "epsilon": _plain(total),
        "epsilon_left": _plain(max(0.0, book.max_epsilon - total)) if math.isfinite(total) else 0.0,
        "epsilon_user_level": _plain(by_unit.get("user", 0.0)),
        "epsilon_example_level": _plain(by_unit.get("example", 0.0)),
        "participations": len(book.entries),
        "complete": not book.incomplete,
        "bytes_sent": sum(entry.bytes_sent for entry in book.entries),
        "bytes_by_kind": {
            kind: sum(entry.bytes_sent for entry in book.entries if entry.kind == kind) for kind in kinds
        },
        "first": book.entries[0].reserved_at if book.entries else None,
        "last": book.entries[-1].reserved_at if book.entries else None,
        "refusals": [dataclasses.asdict(refusal) for refusal in book.refusals],
        "runs": [_run_summary(run, book.entries) for run in dict.fromkeys(entry.run for entry in book.entries)],
        "entries": [dataclasses.asdict(entry) for entry in book.entries],
    }


def tag(book: Book, run: str) -> str:
    """Name a ledger for one run: nobody without the ledger can link two such names."""
    return hashlib.sha256(f"easel-ledger-tag/{book.identity}/{run}".encode()).hexdigest()[:16]


def _history(entries: Iterable[Entry], unit: str) -> list[tuple[Mechanism, int]]:
    """Turn entries of one unit into what an accountant composes; see the rules in :mod:`client.ledger`."""
    chosen = [entry for entry in entries if entry.unit == unit]
    if unit == "example":
        return [(Mechanism(entry.noise_multiplier, entry.sample_rate, unit), entry.steps) for entry in chosen]
    runs: dict[tuple[str, bool], list[Entry]] = {}
    for entry in chosen:
        runs.setdefault((entry.run, entry.separation > 0), []).append(entry)
    return [
        (
            Mechanism(min(item.noise_multiplier for item in run), max(item.sample_rate for item in run), unit),
            1 if correlated else max(item.attempt for item in run),
        )
        for (_, correlated), run in runs.items()
    ]


def _run_summary(run: str, entries: Iterable[Entry]) -> dict[str, Any]:
    """Summarize one run."""
    chosen = [entry for entry in entries if entry.run == run]
    return {
        "run": run,
        "units": sorted({entry.unit for entry in chosen}),
        "participations": len(chosen),
        "highest_round": max(entry.round for entry in chosen),
        "attempts_counted": max(entry.attempt for entry in chosen),
        "bytes_sent": sum(entry.bytes_sent for entry in chosen),
        "first": chosen[0].reserved_at,
        "last": chosen[-1].reserved_at,
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
