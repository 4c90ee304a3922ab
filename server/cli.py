"""The command ``easel-server``: run a federation, see how it stands, check the installation.

Modules that need torch or Flower are imported by the command that uses them, so ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from server import fleet_commands, release_commands, status_commands
from shared_model.errors import EaselError

__all__ = ["main"]

_EPILOG = """\
examples:
  easel-server init fleet --host fleet.example.org
  easel-server device add anna --folder fleet
  easel-server run fleet
  easel-server status fleet
  easel-server run --config federation.toml --run-dir runs/first      (without a fleet's folder)
  flower-supernode --insecure --superlink 127.0.0.1:39300 --node-config 'device-dir="/home/me/easel-device"'
  easel-server doctor

exit codes: 0 fine, 1 failed, 2 bad input, 3 something missing, 4 other version, 5 storage, 6 privacy,
7 federation, 130 interrupted (run the same command again to go on)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easel-server`` with these arguments and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.act(arguments))
    except EaselError as error:
        if getattr(arguments, "log_format", "text") == "json":
            _say_error(error)
            return error.exit_code
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; finished rounds are saved", file=sys.stderr)
        print("hint: run the same command again to go on", file=sys.stderr)
        return 130


def _say_error(error: EaselError) -> None:
    """Say an error as the last JSON line of a run."""
    from server.events import Speaker
    from server.presence import utc_now

    facts = {"hint": error.hint, "exit_code": error.exit_code}
    Speaker(sys.stderr, format="json", clock=utc_now)(error.message, event="error", facts=facts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="easel-server",
        description="Rounds in which devices train a backbone together under differential privacy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fleet_commands.declare(commands)
    status_commands.declare(commands)
    release_commands.declare(commands)
    doctor = commands.add_parser(
        "doctor",
        help="check that a federation can be run here",
        description="Check programs, packages, the starting backbone and the accountant.",
        epilog="example: easel-server doctor",
    )
    doctor.add_argument("--json", action="store_true", help="print facts as JSON")
    doctor.set_defaults(act=_doctor)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    from server.status import examine

    text, healthy = examine(as_json=arguments.json)
    print(text)
    return 0 if healthy else 3


if __name__ == "__main__":
    sys.exit(main())
