"""``easel-sim population``: make a population, count it, and show it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from client.console import Console
from shared_model.config import load_toml
from shared_model.files import write_atomic
from simulations.populations.config import PopulationConfig
from simulations.populations.settlement import settle
from simulations.populations.sheet import write_population_sheet, write_population_table
from simulations.populations.statistics import Statistics, statistics

__all__ = ["make_population", "population_config"]

_OVERRIDES = ("kind", "devices", "alpha", "seed")


def make_population(parsed: argparse.Namespace, console: Console) -> int:
    """Carry out ``easel-sim population``."""
    config = population_config(parsed)
    home = Path(parsed.out)
    with console.progress("people and their training pairs") as follow:
        settlement = settle(
            config, home / "people", photos=parsed.photos, art=parsed.art, splits=parsed.splits, follow=follow
        )
    counted = statistics(settlement.shares)
    sheets = write_population_sheet(settlement, home)
    table = write_population_table(settlement, home / "devices.csv")
    write_atomic(home / "statistics.json", (json.dumps(counted.to_dict(), indent=1) + "\n").encode())
    console.table(_rows(config, counted), header=("population", ""))
    for path in (*sheets, table):
        console.say(f"wrote {path}")
    console.facts({**counted.to_dict(), "sheets": list(map(str, sheets)), "table": str(table)})
    return 0


def population_config(parsed: argparse.Namespace) -> PopulationConfig:
    """Read the settings: a file, its ``[population]`` table if it has one, and what options say otherwise."""
    config = PopulationConfig()
    if parsed.config:
        config = _load(parsed.config)
    said: dict[str, Any] = {key: getattr(parsed, key) for key in _OVERRIDES if getattr(parsed, key) is not None}
    return dataclasses.replace(config, **said)


def _load(path: str) -> PopulationConfig:
    import tomllib

    from shared_model.files import read_bytes

    try:
        tables = tomllib.loads(read_bytes(path, limit=1 << 20).decode())
    except ValueError:
        tables = {}  # load_toml says where the mistake is
    return load_toml(path, PopulationConfig, table="population" if "population" in tables else None)


def _rows(config: PopulationConfig, counted: Statistics) -> list[tuple[str, str]]:
    def spread(values: tuple[int, float, int]) -> str:
        return f"{values[0]} to {values[2]}, mean {values[1]:.1f}"

    return [
        ("kind", config.kind + (f", alpha {config.alpha:g}" if config.kind in ("dirichlet", "quantity") else "")),
        ("devices", str(counted.devices)),
        ("photos", f"{counted.photos} ({spread(counted.photos_each)} a device), domains: {counted.domains}"),
        ("artworks", f"{counted.artworks} ({spread(counted.art_each)} a device)"),
        ("styles", f"{counted.styles} ({spread(counted.styles_each)} a device)"),
        ("records", f"{spread(counted.records_each)} a device; Gini {counted.gini:.2f}"),
        (
            "style entropy",
            f"{counted.entropy_bits:.2f} bits a device (dealt at random: {counted.entropy_even_bits:.2f})",
        ),
        ("style skew", f"{counted.skew:.2f} (dealt at random: {counted.skew_even:.2f})"),
        ("personal tests", f"{counted.own_tests} with an artwork of their own, {counted.borrowed_tests} without"),
    ]
