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
_COLUMNS = ("when (UTC)", "run", "round", "mechanism", "sent", "state")
_NEVER: Mapping[str, Any] = {
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="a device folder or a ledger file (default: this device's own)"
    )
    parser.add_argument("--json", action="store_true", help="print the ledger as JSON")
    parser.add_argument("--rounds", action="store_true", help="list every round: when, how noisy, how many bytes")
    parser.add_argument(
        "--recover",
        action="store_true",
        help="put a damaged, removed or restored ledger right from its newest copies; nothing spent is forgotten",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the summary of a ledger; returns the exit code."""
    console = Console(json=arguments.json)
    path = _ledger_path(arguments.folder)
    found = _summary(path, recover=arguments.recover)
    if found is None and arguments.folder is not None:
        raise MissingError(f"there is no privacy ledger at {path}", hint="name the folder that a device trains from")
    summary = found or _NEVER
    console.facts(summary)
    for line in _explain(summary):
        console.say(line)
    if arguments.rounds and summary["entries"]:
        console.table([_row(entry) for entry in summary["entries"]], header=_COLUMNS)
    return 0


def _ledger_path(folder: str | None) -> Path:
    if folder is None:
        from client.paths import home_folder

        return home_folder() / "device" / LEDGER
    path = Path(folder).expanduser()
    return path if path.is_file() else path / LEDGER


def _summary(path: Path, *, recover: bool) -> dict[str, Any] | None:
    """Read the ledger, put right first if asked; None if there has never been one."""
    from client.ledger import Ledger
    from client.paths import witness_folder

    try:
        opened = Ledger.recover if recover else Ledger.open
        return opened(path, witness=witness_folder()).summary()
    except MissingError:
        return None


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    when = entry["reserved_at"].replace("T", " ").replace("+00:00", "")
    noise = f"noise {entry['noise_multiplier']:g}, rate {entry['sample_rate']:g}, {entry['steps']} steps"
    sent = f"{entry['bytes_sent']} B {entry['kind']}" if entry["bytes_sent"] else "nothing"
    return when, entry["run"], str(entry["round"]), f"{entry['unit']}: {noise}", sent, entry["state"]


def _explain(summary: Mapping[str, Any]) -> list[str]:
    """Say it in plain words."""
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
    return (
        f"This device took part {times} in {runs} run{'s' if runs != 1 else ''} and sent "
        f"{format_bytes(summary['bytes_sent'])} of training updates, clipped{f' ({kinds})' if kinds else ''}. "
        "No picture and no head was sent."
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
