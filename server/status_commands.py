"""The command ``easel-server status``: text, JSON, Prometheus metrics, or a page.

Modules that need torch or Flower are imported by the command that uses them, so ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from shared_model.errors import InputError
from shared_model.files import write_atomic

__all__ = ["declare"]


def declare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``status`` to the parser of ``easel-server``."""
    status = commands.add_parser(
        "status",
        help="show rounds, dropped replies and privacy of a run",
        description="Show how a fleet and its rounds stand, from the folder alone.",
        epilog="example: easel-server status fleet --json",
    )
    status.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="a fleet's folder")
    status.add_argument("--run-dir", type=Path, help="a run without a fleet's folder")
    status.add_argument("--json", action="store_true", help="print facts as JSON")
    status.add_argument("--metrics", action="store_true", help="print Prometheus metrics")
    status.add_argument("--page", action="store_true", help="print the status page (HTML)")
    status.add_argument("--out", type=Path, metavar="FILE", help="write them there, in one step, instead of printing")
    status.set_defaults(act=_status)


def _status(arguments: argparse.Namespace) -> int:
    from server import status

    if (arguments.folder is None) == (arguments.run_dir is None):
        raise InputError("name a fleet's folder, or a run's with --run-dir", hint="easel-server status fleet")
    if arguments.page and arguments.folder is None:
        raise InputError("the page is of a fleet: name its folder", hint="easel-server status fleet --page")
    if arguments.folder is None and not arguments.metrics:
        print(status.show(arguments.run_dir, as_json=arguments.json))
        return 0
    found = _facts(arguments)
    if arguments.metrics:
        from server.metrics import exposition

        _write(arguments, exposition(found["run"], found["fleet"], found["releases"]))
    elif arguments.page:
        from server.status_page import page

        _write(arguments, page(found, live=False))
    elif arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(_describe(found["fleet"], found["releases"]))
        print(status.show(arguments.folder / "run", as_json=False) if found["run"] else "no round was started yet")
    return 0


def _write(arguments: argparse.Namespace, text: str) -> None:
    if arguments.out is not None:
        write_atomic(arguments.out, text.encode(), mode=0o644)
    else:
        print(text, end="")


def _facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the facts of fleet, run and releases, each None where there is none."""
    from server import status
    from server.deployment import Fleet
    from server.presence import utc_now
    from server.standing import Standing

    if arguments.folder is None:
        return {"fleet": None, "run": status.facts(arguments.run_dir), "releases": None}
    return Standing(Fleet.open(arguments.folder), clock=utc_now).facts()


def _describe(fleet: dict[str, Any], releases: dict[str, Any] | None) -> str:
    devices = fleet["devices"]
    process = "not running" if fleet["process"] is None else f"running (process {fleet['process']})"
    return (
        f"fleet {fleet['folder']}: {process}\n"
        f"devices: {devices['enrolled']} enrolled, {fleet['online']} online, {devices['invited']} invited, "
        f"{devices['revoked']} revoked\n"
        f"certificate: {fleet['certificate_days_left']} days left, for {', '.join(fleet['hosts'])}\n"
        + _released(releases)
    )


def _released(releases: dict[str, Any] | None) -> str:
    if releases is None:
        return "releases: none yet"
    latest = releases["latest"]
    quality = "unknown" if latest["quality"] is None else f"{latest['quality']:.3f}"
    before = "" if latest["parent_quality"] is None else f" ({latest['parent_quality']:.3f} before)"
    refused = f"; the gate refused it: {latest['refused']}" if latest["refused"] else ""
    newest = f"the newest is {latest['version']}, quality {quality}{before}{refused}"
    return f"releases: {releases['in_use'] or 'none'} in use; {newest}"
