"""The command ``easel-server``: run a federation, see how it stands, check the installation.

Modules that need torch or Flower are imported by the command that uses them, so ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server import release_commands
from shared_model.errors import EaselError

if TYPE_CHECKING:
    from server.launch import Where

__all__ = ["main"]

_EPILOG = """\
examples:
  easel-server run --config federation.toml --run-dir runs/first
  flower-supernode --insecure --superlink 127.0.0.1:39300 --node-config 'device-dir="/home/me/easel-device"'
  easel-server status --run-dir runs/first --json
  easel-server doctor

exit codes: 0 fine, 1 failed, 2 bad input, 3 something missing, 4 other version, 5 storage, 6 privacy,
7 federation, 130 interrupted (run the same command again to go on)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easel-server`` with these arguments and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "run":
            return _run(arguments)
        if arguments.command == "status":
            return _status(arguments)
        if arguments.command == "release":
            return int(arguments.act(arguments))
        return _doctor(arguments)
    except EaselError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; finished rounds are saved", file=sys.stderr)
        print("hint: run the same command again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="easel-server",
        description="Rounds in which devices train a backbone together under differential privacy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a federation, or go on with one that was interrupted",
        description="Start a SuperLink, wait for devices and run all rounds that are left.",
        epilog="example: easel-server run --config federation.toml --run-dir runs/first",
    )
    run.add_argument("--config", required=True, type=Path, help="TOML file with the settings of the federation")
    run.add_argument("--run-dir", required=True, type=Path, help="folder for state and results; resumed if it has any")
    run.add_argument("--backbone", default="", help="weights to start from (default: those that easel ships)")
    run.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    run.add_argument("--port", type=int, default=39300, help="default: %(default)s")
    for name, what in (("ca", "certificate of the authority"), ("cert", "certificate"), ("key", "private key")):
        run.add_argument(f"--{name}", type=Path, help=f"{what}, PEM; all three or none (loopback only)")
    run.add_argument("--json", action="store_true", help="print the result as JSON")
    status = commands.add_parser(
        "status",
        help="show rounds, dropped replies and privacy of a run",
        description="Show how a run stands, from its folder alone.",
        epilog="example: easel-server status --run-dir runs/first --json",
    )
    status.add_argument("--run-dir", required=True, type=Path)
    status.add_argument("--json", action="store_true", help="print facts as JSON")
    release_commands.declare(commands)
    doctor = commands.add_parser(
        "doctor",
        help="check that a federation can be run here",
        description="Check programs, packages, the starting backbone and the accountant.",
        epilog="example: easel-server doctor",
    )
    doctor.add_argument("--json", action="store_true", help="print facts as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from server.launch import certificates, launch
    from server.status import show

    where: Where = certificates(arguments.host, arguments.port, ca=arguments.ca, cert=arguments.cert, key=arguments.key)

    def say(line: str) -> None:
        print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's stop is a Ctrl-C
    launch(arguments.config, run_dir=arguments.run_dir, backbone=arguments.backbone, where=where, say=say)
    print(show(arguments.run_dir, as_json=arguments.json))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from server.status import show

    print(show(arguments.run_dir, as_json=arguments.json))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from server.status import examine

    text, healthy = examine(as_json=arguments.json)
    print(text)
    return 0 if healthy else 3


if __name__ == "__main__":
    sys.exit(main())
