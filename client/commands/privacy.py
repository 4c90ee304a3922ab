"""``easel privacy``: what this device has given away."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.console import Console
from client.ledger_words import LEDGER, NEVER, explain, read_summary
from shared_model.errors import MissingError

__all__ = ["add_arguments", "run"]

_COLUMNS = ("when (UTC)", "run", "round", "mechanism", "sent", "state")


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
    found = read_summary(path, recover=arguments.recover)
    if found is None and arguments.folder is not None:
        raise MissingError(f"there is no privacy ledger at {path}", hint="name the folder that a device trains from")
    summary = found or NEVER
    console.facts(summary)
    for line in explain(summary):
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


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    when = entry["reserved_at"].replace("T", " ").replace("+00:00", "")
    noise = f"noise {entry['noise_multiplier']:g}, rate {entry['sample_rate']:g}, {entry['steps']} steps"
    sent = f"{entry['bytes_sent']} B {entry['kind']}" if entry["bytes_sent"] else "nothing"
    return when, entry["run"], str(entry["round"]), f"{entry['unit']}: {noise}", sent, entry["state"]
