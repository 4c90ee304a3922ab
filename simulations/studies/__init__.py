"""Studies: questions about the model, answered by runs that anybody can repeat (``easel-sim study NAME``).

A study is a module with two functions: ``parser()`` returns its
:class:`client.parser.Parser`, ``run(parsed, console)`` does the work and returns an exit code. The
registry names the modules, so that listing them loads none.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from client.console import Console
from client.parser import Parser

__all__ = ["STUDIES", "describe", "run_study", "study_parser"]

#: Name to (module, what it answers in one line).
STUDIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "arrivals": (
            "simulations.studies.arrivals",
            "how rounds find cohorts among devices that come and go",
        ),
        "capacity": ("simulations.studies.capacity", "where one server of a fleet ends: polls, replies, bytes"),
        "flicker": ("simulations.studies.flicker", "how steady is a painted clip whose motion is known"),
        "malicious": ("simulations.studies.malicious", "how far can a fifth of the devices push the backbone"),
        "pairs": ("simulations.studies.pairs", "draw fresh pairs of photos and paintings to measure on"),
        "judge": ("simulations.studies.judge", "does an independent judge name the right painter"),
        "fewshot": ("simulations.studies.fewshot", "one picture, in manners near to and far from the training art"),
        "losses": ("simulations.studies.losses", "which adversarial loss and which trunk paint best"),
        "transfer": ("simulations.studies.transfer", "what does tuning more numbers on more pictures bring"),
        "quality": ("simulations.studies.quality", "how well do backbones paint, against the head alone"),
        "speed": ("simulations.studies.speed", "what precision, compiling and bands cost on this machine"),
        "streaming": ("simulations.studies.streaming", "what ever more replies in a round cost the server"),
        "video": ("simulations.studies.video", "how steady and how fast are painted video files"),
        "works": ("simulations.studies.works", "zero-shot against fitted, on works that no head has seen"),
        "robustness": ("simulations.studies.robustness", "how far can a small change of the photo move the painting"),
    }
)


def describe() -> str:
    """Return one line per study, for help texts."""
    return "\n".join(f"  {name:<10} {summary}" for name, (_, summary) in sorted(STUDIES.items()))


def study_parser(name: str, *, description: str, example: str) -> Parser:
    """Return the parser that a study adds its options to; every study understands ``--json``."""
    parser = Parser(
        prog=f"easel-sim study {name}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the facts as one JSON document")
    return parser


def run_study(name: str, arguments: Sequence[str]) -> int:
    """Import a study's module, parse its options, run it and return its exit code."""
    module = importlib.import_module(STUDIES[name][0])
    try:
        parsed = module.parser().parse_args(list(arguments))
    except SystemExit as stop:  # argparse has printed help or a usage error
        return int(stop.code or 0)
    return int(module.run(parsed, Console(json=parsed.json)))
