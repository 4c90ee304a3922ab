"""``easel doctor``: says whether this installation is well."""

from __future__ import annotations

import argparse
import dataclasses

from client.console import Console

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print every finding; returns 1 if one is a failure, else 0."""
    from client.doctor import examine, worst

    console = Console(json=arguments.json)
    checks = examine()
    verdict = worst(checks)
    console.facts({"verdict": verdict, "checks": [dataclasses.asdict(check) for check in checks]})
    for check in checks:
        console.say(f"{check.state:4}  {check.topic:9} {check.message}")
        if check.hint:
            console.say(f"{'':4}  {'':9} -> {check.hint}")
    return 1 if verdict == "fail" else 0
