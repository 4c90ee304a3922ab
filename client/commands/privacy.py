"""``easel privacy``: what this device has given away."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.console import Console, format_bytes
from shared_model.errors import MissingError

__all__ = ["add_arguments", "run"]

LEDGER = "ledger.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="a device folder or a ledger file (default: this device's own)"
    )
    parser.add_argument("--json", action="store_true", help="print the ledger as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the summary of a ledger; returns the exit code."""
    console = Console(json=arguments.json)
    path = _ledger_path(arguments.folder)
    if path.exists() or path.with_name(LEDGER + ".seal").exists():  # a seal alone: the ledger was removed
        summary = _summary(path)
    elif arguments.folder is None:
        summary = {"ledger": None, "epsilon": 0.0, "participations": 0, "bytes_sent": 0, "runs": [], "entries": []}
    else:
        raise MissingError(f"there is no privacy ledger at {path}", hint="name the folder that a device trains from")
    console.facts(summary)
    for line in _explain(summary):
        console.say(line)
    return 0


def _ledger_path(folder: str | None) -> Path:
    if folder is None:
        from client.paths import home_folder

        return home_folder() / "device" / LEDGER
    path = Path(folder).expanduser()
    return path if path.is_file() else path / LEDGER


def _summary(path: Path) -> dict[str, Any]:
    from client.ledger import Ledger

    return Ledger.open(path).summary()


def _explain(summary: Mapping[str, Any]) -> list[str]:
    """Say it in plain words."""
    if not summary["participations"]:
        return ["This device has never taken part in training together: nothing has left it."]
    count, runs = summary["participations"], len(summary["runs"])
    times = "once" if count == 1 else f"{count} times"
    lines = [
        f"This device took part {times} in {runs} run{'s' if runs != 1 else ''} and sent "
        f"{format_bytes(summary['bytes_sent'])} of training updates, clipped. No picture and no head was sent.",
        _spent(summary),
    ]
    lines += [
        f"  run {run['run']}: {run['participations']} rounds up to number {run['highest_round']}, "
        f"{', '.join(run['units'])} level, {format_bytes(run['bytes_sent'])}, {run['first'][:10]} to {run['last'][:10]}"
        for run in summary["runs"]
    ]
    return lines


def _spent(summary: Mapping[str, Any]) -> str:
    epsilon, limit = summary["epsilon"], summary["max_epsilon"]
    if epsilon is None:
        return "Privacy loss: without a bound, since a round without noise was allowed by an unlimited budget."
    chance = f"delta {summary['delta']:g}"
    meaning = "the smaller, the less anybody can tell whether your pictures took part"
    if limit is None:
        return f"Privacy loss: epsilon {epsilon:.2f} ({chance}), no limit set; {meaning}."
    left = f"{summary['epsilon_left']:.2f} left"
    return f"Privacy loss: epsilon {epsilon:.2f} of at most {limit:g} ({chance}), {left}; {meaning}."
