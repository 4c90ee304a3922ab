"""The command ``easel-sim``: simulated fleets, the demo and its report."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from client.console import Console
from client.parser import Parser, Version
from shared_model.errors import EaselError
from simulations.experiment.commands import COMMANDS, add_parsers

__all__ = ["main"]

EXIT_CODES = """exit codes:
  0    everything went well
  1    another error that easel knows
  2    something given cannot be used (an option, a folder, a setting)
  3    not there: a run, weights, an optional package
  5    disk full, no permission, or a damaged file
  6    a privacy promise would be broken
  7    a round cannot be completed
  130  stopped with Ctrl-C; everything so far is saved, the same command goes on
"""

DEMO = """Train a painter together, on this computer, and look at the result.

Simulated people, each with photos and a taste of their own, train the shared backbone in a few
federated rounds under differential privacy; some of them get a private head; photos that nobody
trained on are painted before and after. Leaves report.html, stylized/*.png, rounds.csv,
privacy.json and run.json in the folder of the run.

A run that was stopped or killed goes on where it was with the same command."""

AUDIT = """Attack the privacy code and see whether it leaks more than it claims.

Canaries go through the real device step and the real server round: as they are, without noise (the
control, which must show a leak) and with planted bugs, each of which must be caught. Without --quick,
gradient inversion and membership inference follow. Leaves audit.html and audit.json.

Exit code 6 if the code leaks, if the control shows nothing, or if a planted bug is missed."""

PRICE = """Measure the price of privacy on real pictures.

Starts from the shipped backbone (or the one that --config names) and trains it in a few federated
rounds, again and again: without noise, and with the noise that each epsilon and each cohort of a
large nominal fleet needs. Held-out loss and quality of every run go into price.md, price.csv and
price.svg. The simulated people are not protected to those epsilons; the fleet they stand for is.

A study that was stopped goes on where it was with the same command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easel-sim`` with ``argv`` (default: the command line) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has printed help, the version or a usage error
        return int(stop.code or 0)
    if parsed.command is None:
        parser.print_help()
        return 0
    console = Console(json=parsed.json)
    try:
        commands = {
            "audit": _audit,
            "bench": _bench,
            "demo": _demo,
            "population": _population,
            "price": _price,
            "recipe": _recipe,
            "report": _report,
            "study": _study,
            **COMMANDS,
        }
        return commands[parsed.command](parsed, console)
    except EaselError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.note("stopped")
        return 130


def _demo(parsed: argparse.Namespace, console: Console) -> int:
    from client.startup import import_torch
    from simulations.demo import run_demo
    from simulations.settings import load_demo

    config = load_demo(
        parsed.config,
        devices=parsed.devices,
        rounds=parsed.rounds,
        seed=parsed.seed,
        photos=parsed.photos,
        art=parsed.art,
    )
    import_torch()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill saves as Ctrl-C does
    try:
        summary = run_demo(config, parsed.out, fresh=parsed.fresh, console=console)
    finally:
        signal.signal(signal.SIGTERM, before)
    console.facts(summary)
    return 0


def _report(parsed: argparse.Namespace, console: Console) -> int:
    from simulations.experiment.folder import is_experiment
    from simulations.experiment.page import write_experiment_report
    from simulations.report import write_report

    path = write_experiment_report(parsed.run) if is_experiment(parsed.run) else write_report(parsed.run)
    console.say(f"wrote {path}")
    console.facts({"report": str(path)})
    return 0


def _bench(parsed: argparse.Namespace, console: Console) -> int:
    if parsed.what == "engines":
        from simulations.bench_engines.table import bench_engines

        sizes = [(clients, size) for size in parsed.parameters for clients in parsed.clients]
        measured = bench_engines(console, engines=parsed.engines, sizes=sizes, pfl_python=parsed.pfl_python)
        console.facts(measured)
        return 0
    import torch

    from shared_model.errors import InputError
    from shared_model.weights import default_backbone
    from simulations.benchmark import bench_memory, bench_stylize, bench_training

    if min(parsed.sizes) < 64 or max(parsed.sizes) > 4096:
        raise InputError("sizes must be between 64 and 4096 pixels")
    torch.set_num_threads(1)
    rows = [*bench_stylize(default_backbone(), sizes=parsed.sizes), bench_training(), bench_memory()]
    peers = [*(["Johnson 2016"] * len(parsed.sizes)), "plain step", "plain step"]
    console.table(
        [(r.what, f"{r.ours:.3f}", f"{r.theirs:.3f}", f"{r.ratio:.2f}", p) for r, p in zip(rows, peers, strict=True)],
        header=("CPU seconds, 1 thread", "easel", "peer", "ratio", "which"),
    )
    console.facts([{"what": r.what, "ours": r.ours, "theirs": r.theirs, "ratio": r.ratio} for r in rows])
    return 0


def _population(parsed: argparse.Namespace, console: Console) -> int:
    from client.startup import import_torch

    import_torch()
    from simulations.populations.command import make_population

    return make_population(parsed, console)


def _study(parsed: argparse.Namespace, console: Console) -> int:
    from client.startup import import_torch
    from simulations.studies import run_study

    import_torch()
    return run_study(parsed.name, parsed.options)


def _recipe(parsed: argparse.Namespace, console: Console) -> int:
    from client.startup import import_torch

    import_torch()
    from simulations.celeba import load_config, print_figures, run_recipe

    facts = run_recipe(load_config(parsed.config, steps=parsed.steps), parsed.images, Path(parsed.out), console=console)
    print_figures(facts, console)
    console.say(f"pictures: {parsed.out}/validation.png, {parsed.out}/test.png")
    console.facts(facts)
    return 0


def _audit(parsed: argparse.Namespace, console: Console) -> int:
    from client.startup import import_torch

    import_torch()
    from simulations.audit.attacks import AttackConfig
    from simulations.audit.run import run_audit
    from simulations.audit.suite import AuditConfig

    config = AuditConfig.quick(seed=parsed.seed) if parsed.quick else AuditConfig(seed=parsed.seed)
    attacks = None if parsed.quick or parsed.plant else AttackConfig(seed=parsed.seed)
    run_audit(config, parsed.out, console=console, plant=parsed.plant, attacks=attacks)
    return 0


def _price(parsed: argparse.Namespace, console: Console) -> int:
    from client.startup import import_torch
    from simulations.price.settings import load_price

    config = load_price(parsed.config)
    import_torch()
    from simulations.price.study import run_study

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        facts = run_study(
            config, parsed.out, photos=parsed.photos, art=parsed.art, splits=parsed.splits, console=console
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    console.say(f"wrote {facts['table']} and {facts['plot']}")
    console.facts(facts)
    return 0


def _parser() -> argparse.ArgumentParser:
    from simulations.studies import STUDIES, describe

    parser = Parser(
        prog="easel-sim",
        description="Simulate a fleet of devices on this computer.",
        epilog="example:\n  easel-sim demo\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version, help="print the version and stop")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", parser_class=Parser)
    demo = commands.add_parser(
        "demo",
        help="train together, fit heads, paint photos, and show all of it on one page",
        description=DEMO,
        epilog="examples:\n  easel-sim demo\n  easel-sim demo --photos ~/Pictures --art ~/paintings --out runs/mine\n\n"
        + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--out", default="runs/demo", metavar="DIR", help="folder of the run (default: %(default)s)")
    demo.add_argument("--photos", default="", metavar="DIR", help="your own photos instead of the built-in ones")
    demo.add_argument("--art", default="", metavar="DIR", help="paintings or drawings that you like")
    demo.add_argument("--devices", type=int, metavar="N", help="simulated people (default: 8)")
    demo.add_argument("--rounds", type=int, metavar="R", help="rounds of training together (default: 3)")
    demo.add_argument("--seed", type=int, metavar="S", help="seed of people and pictures, never of privacy noise")
    demo.add_argument("--config", metavar="FILE", help="settings in TOML (default: the demo.toml that easel ships)")
    demo.add_argument("--fresh", action="store_true", help="throw an unfinished run in --out away and start anew")
    report = commands.add_parser(
        "report",
        help="make the page of a run again",
        description="Make report.html again from what a run left in its folder.",
        epilog="example:\n  easel-sim report runs/demo\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("run", metavar="RUN", help="folder of the run")
    bench = commands.add_parser(
        "bench",
        help="measure speed on this machine, side by side with a peer",
        description="Time stylising against the network of Johnson et al. 2016, and private against plain training; "
        "weigh the latter two. With `engines`: client-rounds a second, processor time and memory of simulation "
        "engines.",
        epilog="examples:\n  easel-sim bench --sizes 512 1024\n  easel-sim bench engines --clients 100\n\n"
        + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_argument("what", nargs="?", choices=("engines",), help="engines: simulation engines beside each other")
    engines = ["in-process", "processes", "ray", "flower", "pfl"]
    bench.add_argument(
        "--engines", nargs="+", default=engines, metavar="E", help=f"engines: some of {', '.join(engines)} (all)"
    )
    bench.add_argument(
        "--clients", type=int, nargs="+", default=[100, 1000], metavar="N", help="engines: in a round (100 1000)"
    )
    bench.add_argument(
        "--parameters",
        type=int,
        nargs="+",
        default=[1_000, 1_000_000],
        metavar="P",
        help="engines: of the model (1000 1000000)",
    )
    bench.add_argument(
        "--pfl-python",
        default="",
        metavar="FILE",
        help="engines: a Python that has pfl-research (pip install pfl==0.6.0); without it pfl is left out",
    )
    bench.add_argument(
        "--sizes", type=int, nargs="+", default=[512, 1024], metavar="PX", help="sides of the photo (512 1024)"
    )
    study = commands.add_parser(
        "study",
        help="answer a question about the model by a run of its own",
        description="Answer a question about the model by a run of its own. Studies:\n\n" + describe(),
        epilog="example:\n  easel-sim study quality --help\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("name", choices=sorted(STUDIES), metavar="NAME", help="one of the studies above")
    study.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="the study's own options")
    study.set_defaults(json=False)
    recipe = commands.add_parser(
        "recipe",
        help="run a known case on pictures of your own, such as faces to sketches on CelebA",
        description="celeba: fine-tune the shipped backbone on faces and on sketches that easel's own painter draws of "
        "them, then compare before and after on the validation and test splits. The folder is CelebA as it comes "
        "(official, torchvision's or Kaggle's layout), or any folder of faces. Run again, it goes on where it was.",
        epilog="example:\n  easel-sim recipe celeba --images ~/celeba --out runs/celeba\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recipe.add_argument("name", choices=("celeba",), metavar="NAME", help="celeba")
    recipe.add_argument("--images", required=True, metavar="DIR", help="folder of the data set")
    recipe.add_argument("--out", default="runs/celeba", metavar="DIR", help="folder of the run (default: %(default)s)")
    recipe.add_argument("--config", metavar="FILE", help="settings in TOML (default: celeba_sketch.toml)")
    recipe.add_argument("--steps", type=int, metavar="N", help="steps of fine-tuning (default: the settings')")
    audit = commands.add_parser(
        "audit",
        help="attack the privacy code and see whether it leaks more than it claims",
        description=AUDIT,
        epilog="examples:\n  easel-sim audit --quick\n  easel-sim audit --plant 'half noise'\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument("--quick", action="store_true", help="a small backbone, fewer canaries, no attacks")
    audit.add_argument("--plant", default="", metavar="BUG", help="audit code with this bug in it: must exit with 6")
    audit.add_argument("--seed", type=int, default=0, metavar="S", help="seed of canaries and coins, never of noise")
    audit.add_argument("--out", default="runs/audit", metavar="DIR", help="folder for the page (default: %(default)s)")
    price = commands.add_parser(
        "price",
        help="measure what a backbone learns at one epsilon and cohort after another",
        description=PRICE,
        epilog="example:\n  easel-sim price --photos photos/ --art paintings/ --out runs/price\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    price.add_argument("--photos", nargs="+", required=True, metavar="DIR", help="photos for the simulated people")
    price.add_argument("--art", nargs="+", required=True, metavar="DIR", help="artworks, grouped by hand")
    price.add_argument(
        "--splits", default="", metavar="FILE", help="JSON with lists photos_val and art_test: held out from everybody"
    )
    price.add_argument("--config", metavar="FILE", help="settings in TOML (default: price_of_privacy.toml)")
    price.add_argument("--out", default="runs/price", metavar="DIR", help="folder of the study (default: %(default)s)")
    add_parsers(commands, epilog=EXIT_CODES)
    population = commands.add_parser(
        "population",
        help="make simulated people with pictures, count them, and show them on a sheet",
        description="Deal pictures to simulated devices: folders of your own, or the built-in ones. Leaves device "
        "folders (people/), population.png, devices.csv and statistics.json.",
        epilog="example:\n  easel-sim population --kind dirichlet --alpha 0.3 --out runs/people\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    population.add_argument("config", nargs="?", default="", metavar="CONFIG", help="TOML, or its [population] table")
    population.add_argument("--kind", metavar="KIND", help="natural, iid, dirichlet, quantity or domain")
    population.add_argument("--devices", type=int, metavar="N", help="simulated people (default: 8)")
    population.add_argument(
        "--alpha", type=float, metavar="A", help="evenness of dirichlet and quantity (default: 0.5)"
    )
    population.add_argument("--seed", type=int, metavar="S", help="seed of people and pictures")
    population.add_argument("--photos", nargs="+", default=[], metavar="DIR", help="your own photos")
    population.add_argument("--art", nargs="+", default=[], metavar="DIR", help="your own artworks, grouped by hand")
    population.add_argument("--splits", default="", metavar="FILE", help="JSON that names held-out pictures")
    population.add_argument("--out", default="runs/population", metavar="DIR", help="folder (default: %(default)s)")
    for command in (demo, report, bench, recipe, audit, price, population):
        command.add_argument("--json", action="store_true", help="print the facts as one JSON document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
