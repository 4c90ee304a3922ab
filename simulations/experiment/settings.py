"""What an experiment is: one TOML file with a population, an engine, a federation and methods."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.config import FederationConfig
from shared_model.errors import ConfigError
from simulations.engine import EngineConfig
from simulations.populations import PopulationConfig

__all__ = ["NOISES", "CallbackConfig", "EvaluationConfig", "ExperimentConfig", "MethodConfig", "Value", "config_folder"]

Value = float | int | str | bool

#: Where the noise of differential privacy comes from; the second protects nobody.
NOISES = ("from the system", "seeded for tests")
PROFILES = ("none", "cprofile", "torch")


@dataclass(frozen=True)
class MethodConfig:
    """One way of learning, a ``[[method]]`` of the file.

    Parameters
    ----------
    name
        A key of :data:`simulations.methods.METHODS`.
    label
        What tables and pages call it; the name if empty. No two methods have the same.
    options
        The method's own settings, such as ``mu``.
    federation
        Keys that replace those of ``[federation]`` for this method alone.
    """

    name: str
    label: str = ""
    options: Mapping[str, Value] = field(default_factory=dict)
    federation: Mapping[str, Value] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What people read."""
        return self.label or self.name

    @property
    def slug(self) -> str:
        """The title as a file name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.title.lower()).strip("-.") or "method"


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, and when.

    Parameters
    ----------
    every
        Rounds between two evaluations; the last round is always evaluated.
    records
        Held-out records for the loss of the shared backbone; 0 leaves it out.
    pairs, paint_px
        Held-out pairs for its picture quality, and the short side at which they are painted; quality
        is measured after the last round.
    personal
        Measure every device with its own network on its own test records at each evaluation; ``false``
        does so at the end only.
    photos, tastes
        Held-out photos painted under every method, in the tastes of so many devices; 0 paints none.
    """

    every: int = 1
    records: int = 32
    pairs: int = 0
    paint_px: int = 256
    personal: bool = True
    photos: int = 2
    tastes: int = 2

    def __post_init__(self) -> None:
        bounds = {
            "every": (1, 100_000),
            "records": (0, 10_000),
            "pairs": (0, 1000),
            "paint_px": (64, 4096),
            "photos": (0, 20),
            "tastes": (0, 20),
        }
        _check(self, bounds)


@dataclass(frozen=True)
class CallbackConfig:
    """What else happens after each round.

    Parameters
    ----------
    stop_after, stop_margin
        Stop a trial when so many evaluations in a row did not lower the personal loss (the held-out loss
        where there is none) by more than the margin; 0 never stops.
    ema
        Decay of an average of the shared backbone, measured beside it; 0 keeps none.
    profile
        ``"cprofile"`` or ``"torch"``: write where the time of each trial went.
    csv, parquet, tensorboard, wandb
        Where rows go. Parquet needs pyarrow, Weights & Biases its own package; it writes offline only.
    """

    stop_after: int = 0
    stop_margin: float = 0.0
    ema: float = 0.0
    profile: str = "none"
    csv: bool = True
    parquet: bool = False
    tensorboard: bool = False
    wandb: bool = False

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ConfigError(f"profile must be one of {', '.join(PROFILES)}, not {self.profile!r}")
        _check(self, {"stop_after": (0, 10_000), "stop_margin": (0.0, 1e6)})
        if not 0.0 <= self.ema < 1.0:
            raise ConfigError(f"ema must be at least 0 and below 1, not {self.ema}")


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment, or one cell of a sweep.

    Parameters
    ----------
    method
        The methods to compare.
    name
        Title of its pages.
    seeds
        One trial of every method for each; a seed is that of people, pictures and public draws.
    backbone
        Weights file to start from; empty for the one that easel ships.
    noise
        ``"from the system"``, or ``"seeded for tests"``: privacy noise that can be repeated, and that
        therefore protects nobody. Runs and pages say so.
    participants
        Devices asked in each round; 0: all.
    population, engine, federation, evaluation, callbacks
        Tables of the file. Of the federation, the numbers of simulated devices are filled in.
    """

    method: tuple[MethodConfig, ...]
    name: str = "experiment"
    seeds: tuple[int, ...] = (0,)
    backbone: str = ""
    noise: str = NOISES[0]
    participants: int = 0
    population: PopulationConfig = field(default_factory=PopulationConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    callbacks: CallbackConfig = field(default_factory=CallbackConfig)

    def __post_init__(self) -> None:
        if not self.method:
            raise ConfigError("an experiment needs at least one method", hint='add [[method]] with name = "fedavg"')
        known: tuple[object, ...] = self.seeds  # the reader of settings does not look inside lists
        if not known or not all(isinstance(seed, int) and 0 <= seed < 2**20 for seed in known):
            raise ConfigError(f"seeds must be a list of numbers from 0 to {2**20 - 1}, not {list(self.seeds)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must differ, not {list(self.seeds)}")
        if self.noise not in NOISES:
            raise ConfigError(f"noise must be one of {', '.join(NOISES)}, not {self.noise!r}")
        if not 0 <= self.participants <= self.population.devices:
            raise ConfigError(
                f"participants must be between 0 (all) and the {self.population.devices} devices, "
                f"not {self.participants}"
            )
        if self.engine.seeded_noise >= 0:
            raise ConfigError("seeded_noise is set by the experiment", hint=f'write noise = "{NOISES[1]}"')
        slugs = [method.slug for method in self.method]
        for method, slug in zip(self.method, slugs, strict=True):
            if slugs.count(slug) > 1:
                raise ConfigError(f"two methods are called {method.title!r}", hint="give each a label of its own")

    @property
    def private(self) -> bool:
        """Whether the noise protects anybody; ``False`` in the test mode."""
        return self.noise == NOISES[0]

    def federation_of(self, method: MethodConfig, seed: int) -> FederationConfig:
        """Return the federation of one trial: a method's own keys on top, and the simulated devices.

        User-level noise is that of the nominal fleet, rescaled to the simulated devices
        (:class:`server.config.FederationConfig`); example-level noise is the devices' own.

        Raises
        ------
        ConfigError
            If the keys do not fit together.
        """
        devices = self.population.devices
        asked = self.participants or devices
        values = dataclasses.replace(self.federation, **dict(method.federation))  # type: ignore[arg-type]
        if values.unit == "user":
            return dataclasses.replace(
                values,
                cohort=max(asked, values.cohort),
                population=max(devices, values.population),
                simulated_population=devices,
                simulated_cohort=asked,
                rescale_noise=True,
                min_nodes=1,
                seed=values.seed + 1000 * seed,
            )
        return dataclasses.replace(
            values, population=devices, cohort=asked, min_nodes=1, seed=values.seed + 1000 * seed
        )

    def engine_of(self, seed: int) -> EngineConfig:
        """Return the engine of one seed.

        The population's way of coming and going is its own, unless it has one; in the test mode it makes
        the server's noise from the seed.
        """
        engine = self.engine
        if engine.churn.calm and not self.population.churn.calm:
            engine = dataclasses.replace(engine, churn=self.population.churn)
        return engine if self.private else dataclasses.replace(engine, seeded_noise=seed)

    def population_of(self, seed: int) -> PopulationConfig:
        """Return the population of one seed."""
        return dataclasses.replace(self.population, seed=self.population.seed + 1000 * seed)


def config_folder() -> Path:
    """Where the experiments that easel ships lie."""
    return Path(__file__).parents[1] / "configs"


def _check(config: object, bounds: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in bounds.items():
        if not low <= getattr(config, name) <= high:
            raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {getattr(config, name)}")
