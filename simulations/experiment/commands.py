"""``easel-sim run``, ``resume`` and ``compare``; loads nothing heavy before a command really runs."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.console import Console

__all__ = ["COMMANDS", "add_parsers"]

RUN = """Carry out an experiment: every method of a TOML file with every seed, on one population.

Leaves report.html, rounds.csv, devices.csv and a folder per trial. Whatever stops it, `easel-sim resume`
goes on after the last finished round, and ends with the same figures. docs/experiments.md explains the
file; a wrong key or value in it is named with its line."""

COMPARE = """Put runs side by side on one page: curves with intervals, privacy against quality, bytes,
losses per device, and the same photos painted under every method."""


def add_parsers(commands: Any, *, epilog: str) -> None:
    """Add the commands to a parser's subparsers."""

    def add(name: str, help: str, description: str, example: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name,
            help=help,
            description=description,
            epilog=f"example:\n  easel-sim {example}\n\n{epilog}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return made

    run = add("run", "carry out an experiment from a TOML file", RUN, "run experiment.toml --out runs/mine")
    run.add_argument("config", metavar="CONFIG", help="the experiment, or the name of one that easel ships")
    run.add_argument("--out", default="", metavar="DIR", help="folder of the run (default: runs/ and the file's name)")
    run.add_argument("--photos", nargs="+", default=[], metavar="DIR", help="your own photos, instead of built-in ones")
    run.add_argument("--art", nargs="+", default=[], metavar="DIR", help="artworks, grouped by hand")
    run.add_argument("--splits", default="", metavar="FILE", help="JSON with lists photos_val and art_test: held out")
    resume = add("resume", "go on with an experiment that was stopped or killed", "Go on.", "resume runs/mine")
    resume.add_argument("run", metavar="RUN", help="folder of the run")
    compare = add("compare", "put runs and methods side by side on one page", COMPARE, "compare runs/a runs/b")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, finished or not")
    compare.add_argument("--out", default="runs/compare", metavar="DIR", help="for the page (default: %(default)s)")
    for command in (run, resume, compare):
        command.add_argument("--json", action="store_true", help="print the facts as one JSON document")


def run(parsed: argparse.Namespace, console: Console) -> int:
    """``easel-sim run``."""
    from simulations.experiment.plan import find_plan, load_plan

    path = find_plan(parsed.config)
    plan = load_plan(path)
    _heavy()
    from simulations.experiment.folder import Folders
    from simulations.experiment.run import run_experiment

    out = Path(parsed.out or Path("runs") / path.stem)
    folders = Folders.of(parsed.photos, parsed.art, parsed.splits)
    return _finish(lambda: run_experiment(plan, out, folders=folders, console=console), console)


def resume(parsed: argparse.Namespace, console: Console) -> int:
    """``easel-sim resume``."""
    _heavy()
    from simulations.experiment.run import resume_experiment

    return _finish(lambda: resume_experiment(parsed.run, console=console), console)


def compare(parsed: argparse.Namespace, console: Console) -> int:
    """``easel-sim compare``."""
    from simulations.experiment.comparison import compare_runs

    facts = compare_runs(parsed.runs, parsed.out)
    console.say(f"wrote {facts['page']}")
    console.facts(facts)
    return 0


def _finish(work: Callable[[], dict[str, Any]], console: Console) -> int:
    from simulations.experiment.page import write_experiment_report

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill saves as Ctrl-C does
    try:
        facts = work()
    finally:
        signal.signal(signal.SIGTERM, before)
    facts["report"] = str(write_experiment_report(facts["folder"]))
    console.say(f"wrote {facts['report']}")
    console.facts(facts)
    return 0


def _heavy() -> None:
    from client.startup import import_torch

    import_torch()


#: What each command does.
COMMANDS = {"run": run, "resume": resume, "compare": compare}
