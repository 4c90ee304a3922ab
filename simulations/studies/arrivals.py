"""How quickly and how fairly rounds find their cohorts among a million devices that come and go."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from client.console import Console
from client.parser import Parser
from server.config import FederationConfig
from shared_model.errors import InputError
from shared_model.files import write_atomic
from simulations.arrivals import Outcome, even_gini, simulate
from simulations.studies import study_parser

__all__ = ["parser", "run", "variants"]

_ROUNDS = 100_000  # more than fit into any simulated time


def parser() -> Parser:
    """Return the study's options."""
    study = study_parser(
        "arrivals",
        description="Simulate when devices of a large fleet may take part (charging, unmetered, idle; time zones; "
        "going away) and run the server's own selection on them: time to fill a cohort, rounds that fail, who is asked "
        "how often, memory. The habits are assumptions; nothing is trained.",
        example="easel-sim study arrivals --devices 1000000 --days 1",
    )
    study.add_argument("--devices", type=int, default=100_000, metavar="N", help="default: %(default)s")
    study.add_argument("--days", type=float, default=1.0, metavar="D", help="default: %(default)s")
    study.add_argument("--cohort", type=int, default=1000, metavar="N", help="planned a round (default: %(default)s)")
    study.add_argument("--pause", type=float, default=600.0, metavar="S", help="between rounds (default: %(default)s)")
    study.add_argument("--seed", type=int, default=0, metavar="S", help="of habits, never of secret coins")
    study.add_argument("--out", type=Path, metavar="FILE", help="write all rounds there (JSON)")
    return study


def variants(devices: int, cohort: int) -> dict[str, FederationConfig]:
    """Return the federations that are compared.

    ``stated``: the population is all devices, as one would think. ``there``: it is stated as the fifth of
    them that is there at the worst hour, so each is asked five times as often, and the accounting
    knows. ``separated``: correlated noise, where whoever is there may be asked, once in 50 rounds.
    """
    if cohort * 50 > devices:
        raise InputError(
            f"{devices} devices cannot fill cohorts of {cohort}", hint="a fleet of 50 cohorts or more, or smaller ones"
        )
    plain = FederationConfig(
        rounds=_ROUNDS,
        population=devices,
        cohort=cohort,
        noise_multiplier=1.0,
        min_nodes=10 * cohort,
        wait_s=86_400.0,
        deadline_s=600.0,
    )
    return {
        "stated": plain,
        "there": dataclasses.replace(plain, population=max(cohort, devices // 5)),
        "separated": dataclasses.replace(plain, mechanism="factorized", min_separation=50),
    }


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Simulate each variant and print what came of it."""
    found: dict[str, Outcome] = {}
    with console.progress("arrivals") as advance:
        known = variants(parsed.devices, parsed.cohort)
        for number, (name, config) in enumerate(known.items(), 1):
            found[name] = simulate(
                config, devices=parsed.devices, days=parsed.days, pause_s=parsed.pause, seed=parsed.seed
            )
            advance(number / len(known), name)
    facts = {name: outcome.facts() for name, outcome in found.items()}
    for name, outcome in found.items():
        facts[name]["gini_of_chance"] = even_gini(float(outcome.times_asked.mean()))
    if parsed.out is not None:
        rounds = {name: [dataclasses.asdict(item) for item in outcome.rounds] for name, outcome in found.items()}
        write_atomic(parsed.out, (json.dumps({"facts": facts, "rounds": rounds}) + "\n").encode())
    keys = list(next(iter(facts.values())))
    console.table(
        [(key.replace("_", " "), *(_shown(facts[name][key]) for name in facts)) for key in keys],
        header=("", *facts),
    )
    console.facts(facts)
    return 0


def _shown(value: float | int | None) -> str:
    if value is None:
        return "never"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
