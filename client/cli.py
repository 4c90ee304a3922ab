"""The command ``easel``: finds the sub-command, loads only what it needs, and turns mistakes into two lines.

Each sub-command is one module of :mod:`client.commands` with ``add_arguments(parser)`` and
``run(arguments) -> int``. Only the module of the command that was asked for is imported, so
``easel --help`` loads neither torch nor any of them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from client.console import Console
from client.parser import Parser, Version
from client.startup import import_torch
from shared_model.errors import EaselError, StorageError

__all__ = ["COMMANDS", "EXIT_CODES", "Command", "main"]


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes
    ----------
    module
        Where its ``add_arguments`` and ``run`` are.
    summary
        One line for ``easel --help``.
    description
        What it does, for its own help.
    example
        How it is used.
    torch
        Needs torch from the start.
    polite
        Its threads sleep while they wait, see :func:`client.startup.import_torch`.
    """

    module: str
    summary: str
    description: str
    example: str
    torch: bool = True
    polite: bool = True


COMMANDS: dict[str, Command] = {
    "stylize": Command(
        "client.commands.stylize",
        "paint photos and videos in a style",
        "Paint photos and videos with a head (your own or a shipped one), or in the style of a few pictures right "
        "away. Nothing leaves this computer.",
        "easel stylize holiday/ --head oil\n"
        "  easel stylize photo.jpg --style monet1.jpg monet2.jpg -o painted.png --strength 0.8\n"
        "  cat photo.jpg | easel stylize - --head sketch > sketch.png\n"
        "  easel stylize clip.mp4 --head oil --size 512 -o painted.mp4",
    ),
    "watch": Command(
        "client.commands.watch",
        "paint pictures as they arrive in a folder",
        "Paint every picture that arrives in a folder, until Ctrl-C. Pictures still being written are left until they "
        "are whole, paintings are not painted again.",
        "easel watch ~/incoming --head oil -o ~/painted",
    ),
    "live": Command(
        "client.commands.live",
        "paint what a camera, or the screen, shows as it happens",
        "Paint the newest picture of a camera, of the screen or of a video again and again, and show it on a page of "
        "this computer's browser. Nothing is recorded or sent.",
        "easel live --head oil\n  easel live screen --head sketch --fps 4\n  easel live clip.mp4 --head oil",
    ),
    "personalize": Command(
        "client.commands.personalize",
        "make a head of your own from pictures you like",
        "Fit a private head to a few pictures. It stays on this computer.",
        "easel personalize my-monet monet1.jpg monet2.jpg --budget 20",
    ),
    "evaluate": Command(
        "client.commands.evaluate",
        "compare a head before and after its tuning",
        "Paint photos with a head before and after its tuning and judge both: how much of the photo and of the painter "
        "is in them. Writes a contact sheet and a bar chart.",
        "easel evaluate my-monet --photos photos/ --art other-monets/",
    ),
    "prefer": Command(
        "client.commands.prefer",
        "choose between paintings: a head learns what you like",
        "Paint a photo in several manners and learn from your choice. About 15 choices are enough. What is learned "
        "stays on this computer.",
        "easel prefer my-monet photo.jpg\n  easel prefer my-monet photo.jpg --choose 3,1\n"
        "  easel prefer my-monet --apply",
    ),
    "heads": Command(
        "client.commands.heads",
        "list, show, export, import, rename and delete heads",
        "The heads on this computer: your own, and those that come with easel.",
        "easel heads list --sheet heads.png\n  easel heads export my-monet monet.head --passphrase\n"
        "  easel heads import monet.head --name claude\n  easel heads delete my-monet",
    ),
    "serve": Command(
        "client.commands.serve",
        "paint for other programs of this computer",
        "Keep a painter warm for the programs of this user: gRPC on a Unix socket that only this user can open, or on "
        " loopback with a token. See docs/daemon.md and protos/studio.proto.",
        "easel serve\n  easel serve --tcp 127.0.0.1:7171\n  easel serve --status\n  easel serve --stop",
        torch=False,
    ),
    "models": Command(
        "client.commands.models",
        "fetch releases of the backbone, and choose which one paints",
        "Releases of the backbone that your fleet trained: signed, checked, and used only when you say so. The "
        "backbone that came with easel stays the default.",
        "easel models fetch\n  easel models list\n  easel models use 3 --keep-heads\n  easel models use default",
        torch=False,
    ),
    "train": Command(
        "client.commands.train",
        "train a backbone from photos and paintings",
        "Train the shared backbone in one place, without labels and without any pretrained network.",
        "easel train --photos photos/ --art paintings/",
        polite=False,
    ),
    "join": Command(
        "client.commands.join",
        "take part in training together, under a privacy budget",
        "Join a fleet with the one-time code of its operator, then train with the others whenever your policy allows. "
        "Pictures and heads stay on this computer. The key is made here; run it again without a code to go on.",
        "easel join --server fleet.example.org:39300 --code CODE --photos photos/ --art art/ --max-epsilon 3\n"
        "  easel join",
    ),
    "leave": Command(
        "client.commands.leave",
        "leave the fleet; removes keys and records, keeps the privacy ledger",
        "Stop taking part, tell the server to forget this device, and remove what joining has put here. The privacy "
        "ledger stays, as your record of what was given away, unless you ask otherwise.",
        "easel leave",
        torch=False,
    ),
    "privacy": Command(
        "client.commands.privacy",
        "say what this device has given away so far",
        "Read the privacy ledger of this device: what was sent, and how much of the budget is left.",
        "easel privacy",
        torch=False,
    ),
    "export": Command(
        "client.commands.export",
        "write a head's paintings as one ONNX file",
        "Export the whole painting of a head (draft, backbone, finish) to ONNX, for other programs and the browser. "
        "The file contains small pieces of the pictures that the head was made from.",
        "easel export oil.onnx --head oil",
    ),
    "studio": Command(
        "client.commands.studio",
        "open the studio: paint on a page in your browser",
        "Serve a page to this computer's browser: drop photos, choose styles, compare, make heads, look back. Nothing "
        "leaves this computer.",
        "easel studio\n  easel studio --no-browser --port 8700",
    ),
    "doctor": Command(
        "client.commands.doctor",
        "check this installation and say how to fix it",
        "Look at Python, torch, GPU, memory, disk, the backbone, the heads and the home folder. Exit code 1 if "
        "something will not work, 0 if all works or could only be better.",
        "easel doctor\n  easel doctor --json",
        torch=False,
    ),
}

EXIT_CODES = """exit codes:
  0    everything went well
  1    another error that easel knows
  2    something given cannot be used (an option, a picture, a name)
  3    not there: a head, weights, an optional package, a device
  4    made for another backbone, format or version
  5    disk full, no permission, or a damaged file
  6    a privacy promise would be broken
  7    a server or a round cannot be used
  130  stopped with Ctrl-C; finished work stays

where things are:
  heads and settings   $EASEL_HOME, or your user data folder"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easel`` with ``argv`` (default: the command line) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    try:
        return _run(arguments)
    except EaselError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.note("stopped")
        return 130
    except BrokenPipeError:
        # Whoever read our output went away (`easel heads list | head -1`): not an error worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        # A path that cannot even be looked at: too long a name, a folder closed to this user.
        told = StorageError(f"cannot use {error.filename}: {error.strerror}", hint="check the path and its permissions")
        console.error(told)
        return told.exit_code


def _run(arguments: list[str]) -> int:
    wanted = next((argument for argument in arguments if not argument.startswith("-")), "")
    parser = _parser(wanted)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has printed help, the version or a usage error
        return int(stop.code or 0)
    if not wanted:
        parser.print_help()
        return 0
    command = COMMANDS[wanted]
    if command.torch:
        import_torch(polite=command.polite)
    run = cast("Callable[[argparse.Namespace], int]", importlib.import_module(command.module).run)
    return run(parsed)


def _parser(wanted: str) -> argparse.ArgumentParser:
    """Build the parser; only the sub-command ``wanted`` gets its arguments."""
    parser = Parser(
        prog="easel",
        description="Paint your photos in your own style. Everything stays on this computer.",
        epilog="example:\n  easel stylize photo.jpg --head oil\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version, help="print the version and stop")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in COMMANDS.items():
        child = commands.add_parser(
            name,
            help=command.summary,
            description=command.description,
            epilog=f"example:\n  {command.example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted:
            importlib.import_module(command.module).add_arguments(child)
    return parser


if __name__ == "__main__":
    sys.exit(main())
