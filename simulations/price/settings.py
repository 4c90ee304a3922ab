"""Settings of a price-of-privacy study: one TOML file, and the cells that it spans."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path

from server.config import FederationConfig
from shared_model.config import load_toml
from shared_model.errors import ConfigError
from simulations.populations.config import PopulationConfig

__all__ = ["Cell", "PriceConfig", "default_path", "load_price"]


@dataclass(frozen=True)
class Cell:
    """One run of the study.

    Parameters
    ----------
    epsilon
        The nominal fleet's whole budget; infinity trains without noise.
    cohort
        Devices of the nominal fleet in a round; 0 without noise, where it does not matter.
    repeat
        From 0; another one draws other minibatches, crops of projections and noise.
    """

    epsilon: float
    cohort: int
    repeat: int

    @property
    def name(self) -> str:
        """The cell's file name."""
        return f"epsilon-{self.epsilon:g}_cohort-{self.cohort}_repeat-{self.repeat}"


@dataclass(frozen=True)
class PriceConfig:
    """What a study does.

    Parameters
    ----------
    epsilons
        Budgets of the nominal fleet for all rounds; ``inf`` is the run without noise.
    cohorts
        Devices of the nominal fleet in a round; the sampling rate is cohort over population.
    repeats
        Runs of each cell; intervals are Student's, 95 percent, over them.
    devices, photos_each, art_each, pictures_px
        The simulated people, all of whom take part in every round, and their pictures.
    records, record_px
        Fixed training pairs on each device, and their side in pixels.
    held_records
        Held-out records on which the loss is measured.
    pairs, paint_px
        Held-out pairs of a photo and a painting on which quality is measured, and the short side at
        which they are painted.
    seed
        Of people, pictures and public draws; never of privacy noise.
    backbone
        Weights file to start from; empty for the one that easel ships.
    federation
        The rounds; population, clip and local training. Noise, cohort and simulation are filled in.
    """

    epsilons: tuple[float, ...] = (math.inf, 8.0, 4.0, 2.0, 1.0)
    cohorts: tuple[int, ...] = (100, 1000, 10_000)
    repeats: int = 3
    devices: int = 8
    photos_each: int = 8
    art_each: int = 2
    pictures_px: int = 512
    records: int = 12
    record_px: int = 64
    held_records: int = 48
    pairs: int = 4
    paint_px: int = 320
    seed: int = 0
    backbone: str = ""
    federation: FederationConfig = field(default_factory=FederationConfig)

    def __post_init__(self) -> None:
        bounds = {
            "repeats": (1, 100),
            "devices": (2, 200),
            "photos_each": (1, 100),
            "art_each": (1, 50),
            "pictures_px": (64, 2048),
            "records": (1, 1000),
            "record_px": (48, 512),
            "held_records": (1, 1000),
            "pairs": (0, 100),
            "paint_px": (64, 4096),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be between {low} and {high}, not {getattr(self, name)}")
        if not self.epsilons or not all(_is_number(e) and e > 0.0 for e in self.epsilons):
            raise ConfigError(f"epsilons must be positive numbers, not {list(self.epsilons)}")
        noisy = any(math.isfinite(epsilon) for epsilon in self.epsilons)
        if noisy and not self.cohorts:
            raise ConfigError("cohorts must name at least one size")
        for cohort in self.cohorts:
            if not _is_number(cohort) or not self.devices <= cohort <= self.federation.population:
                raise ConfigError(
                    f"every cohort must be between the {self.devices} simulated devices and the population of "
                    f"{self.federation.population}, not {cohort}"
                )
        if self.federation.unit != "user":
            raise ConfigError("a price-of-privacy study is about user-level privacy", hint='set unit = "user"')

    def cells(self) -> tuple[Cell, ...]:
        """Return all runs, every cell once before any is repeated."""
        found: list[Cell] = []
        for repeat in range(self.repeats):
            for epsilon in self.epsilons:
                sizes = self.cohorts if math.isfinite(epsilon) else (0,)
                found.extend(Cell(float(epsilon), int(cohort), repeat) for cohort in sizes)
        return tuple(found)

    @property
    def population(self) -> PopulationConfig:
        """The simulated people: the works of one hand each, photos at random, no personal tests."""
        return PopulationConfig(
            kind="natural",
            devices=self.devices,
            photos_each=self.photos_each,
            art_each=self.art_each,
            test_photos=0,
            test_records=0,
            records=self.records,
            record_px=self.record_px,
            seed=self.seed,
        )

    def federation_of(self, cell: Cell, *, noise_multiplier: float) -> FederationConfig:
        """Return the federation of one cell, with noise that was solved for it (0: unprotected)."""
        return dataclasses.replace(
            self.federation,
            cohort=cell.cohort or self.devices,
            target_epsilon=cell.epsilon if math.isfinite(cell.epsilon) else 0.0,
            noise_multiplier=noise_multiplier,
            unprotected=not math.isfinite(cell.epsilon),
            accept_loud_noise=True,
            simulated_population=self.devices,
            simulated_cohort=self.devices,
            rescale_noise=True,
            min_nodes=self.devices,
            seed=self.federation.seed + 1000 * cell.repeat,
        )


def _is_number(value: object) -> bool:
    """Say whether a value from a TOML list is one: the reader of settings does not look inside lists."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def default_path() -> Path:
    """Where the settings that easel ships lie."""
    return Path(__file__).parents[1] / "configs" / "price_of_privacy.toml"


def load_price(path: Path | str | None = None) -> PriceConfig:
    """Read a study's settings.

    Raises
    ------
    StorageError
        If the file cannot be read.
    ConfigError
        On an unknown key, a wrong type or a value out of range.
    """
    return load_toml(path or default_path(), PriceConfig)
