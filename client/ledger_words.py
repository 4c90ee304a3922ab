"""What a privacy ledger says, in plain words: for the command line and for the studio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.console import format_bytes
from shared_model.errors import MissingError

__all__ = ["LEDGER", "NEVER", "explain", "read_summary"]

LEDGER = "ledger.json"
NEVER: Mapping[str, Any] = {
    "ledger": None,
    "complete": True,
    "epsilon": 0.0,
    "epsilon_left": None,
    "max_epsilon": None,
    "participations": 0,
    "bytes_sent": 0,
    "bytes_by_kind": {},
    "first": None,
    "last": None,
    "refusals": [],
    "runs": [],
    "entries": [],
}


def read_summary(path: Path, *, recover: bool = False) -> dict[str, Any] | None:
    """Read the ledger at ``path``, put right first if asked; None if there has never been one.

    Raises
    ------
    LedgerError
        If it is damaged, foreign, rolled back or gone.
    """
    from client.ledger import Ledger
    from client.paths import witness_folder

    try:
        opened = Ledger.recover if recover else Ledger.open
        return opened(path, witness=witness_folder()).summary()
    except MissingError:
        return None


def explain(summary: Mapping[str, Any]) -> list[str]:
    """Say it in plain words: what was sent, what it cost, every run, what was refused."""
    lines = [_took_part(summary)]
    if summary["ledger"] is not None and (summary["participations"] or not summary["complete"]):
        lines.append(_spent(summary))
    lines += [
        f"  run {run['run']}: {run['participations']} rounds up to number {run['highest_round']}, "
        f"{', '.join(run['units'])} level, {format_bytes(run['bytes_sent'])}, {run['first'][:10]} to {run['last'][:10]}"
        for run in summary["runs"]
    ]
    lines += [
        f"  refused {refusal['count']} of run {refusal['run']}, last on {refusal['last'][:10]}: {refusal['why']}"
        for refusal in summary["refusals"]
    ]
    return lines


def _took_part(summary: Mapping[str, Any]) -> str:
    count, runs = summary["participations"], len(summary["runs"])
    if not count:
        return "This device has never taken part in training together: nothing has left it."
    times = "once" if count == 1 else f"{count} times"
    kinds = ", ".join(f"{format_bytes(size)} as {kind}" for kind, size in summary["bytes_by_kind"].items())
    silent = sum(entry["state"] == "reserved" for entry in summary["entries"])
    idle = f"In {silent} of these it has sent nothing, which counts all the same. " if silent else ""
    return (
        f"This device took part {times} in {runs} run{'s' if runs != 1 else ''} and sent "
        f"{format_bytes(summary['bytes_sent'])} of training updates, clipped{f' ({kinds})' if kinds else ''}. "
        f"{idle}No picture and no head was sent."
    )


def _spent(summary: Mapping[str, Any]) -> str:
    epsilon, limit = summary["epsilon"], summary["max_epsilon"]
    if not summary["complete"]:
        counted = f"all of the budget of {limit:g}" if limit is not None else "a loss without a bound"
        return (
            f"Privacy loss: this ledger is an old copy, so {counted} counts as spent. Put the latest copy back and "
            "run easel privacy --recover."
        )
    if epsilon is None:
        return "Privacy loss: without a bound, since a round without noise was allowed by an unlimited budget."
    chance = f"delta {summary['delta']:g}"
    meaning = "the smaller, the less anybody can tell whether your pictures took part"
    if limit is None:
        return f"Privacy loss: epsilon {epsilon:.2f} ({chance}), no limit set; {meaning}."
    left = f"{summary['epsilon_left']:.2f} left"
    return f"Privacy loss: epsilon {epsilon:.2f} of at most {limit:g} ({chance}), {left}; {meaning}."
