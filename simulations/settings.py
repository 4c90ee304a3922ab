"""Settings of the demo: one TOML file, a few options of the command line on top."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from server.config import FederationConfig
from shared_model.config import load_toml
from shared_model.errors import ConfigError

__all__ = ["DemoConfig", "default_path", "load_demo"]


@dataclass(frozen=True)
class DemoConfig:
    """What a demo run does.

    Parameters
    ----------
    devices
        Simulated people.
    photos_each, art_each
        Pictures of each person, when they are made from the built-in ones.
    pictures_px
        Short side of a person's pictures, in pixels.
    records, record_px
        Fixed training pairs per device and their side in pixels.
    max_epsilon
        Budget in every device's own ledger, for the nominal fleet.
    heads
        How many people get a private head and have photos painted.
    tune_s
        Seconds for tuning a head on the device.
    paint_px
        Short side of a painting, in pixels.
    detail
        How much of a photo's fine structure shows through, 0 to 1.
    paintings
        Held-out photos painted for each of them.
    judged_records
        Held-out records on which the loss is measured after every round.
    judged_pairs
        At most so many held-out pairs of photo and artwork, on which picture quality is measured
        after every round; 0 measures no quality at all.
    seed
        Seed of people, pictures and public draws; never of privacy noise.
    backbone
        Weights file to start from; empty for the one that easel ships.
    photos, art
        Folders with one's own pictures; empty for the built-in ones. Give both or none.
    federation
        See :class:`server.config.FederationConfig`.
    """

    devices: int = 8
    photos_each: int = 4
    art_each: int = 2
    pictures_px: int = 384
    records: int = 12
    record_px: int = 128
    max_epsilon: float = 4.0
    heads: int = 4
    tune_s: float = 8.0
    paint_px: int = 512
    detail: float = 0.25
    paintings: int = 2
    judged_records: int = 12
    judged_pairs: int = 4
    seed: int = 0
    backbone: str = ""
    photos: str = ""
    art: str = ""
    federation: FederationConfig = field(default_factory=FederationConfig)

    def __post_init__(self) -> None:
        bounds = {
            "devices": (2, 200),
            "photos_each": (1, 50),
            "art_each": (1, 50),
            "pictures_px": (64, 2048),
            "records": (1, 1000),
            "record_px": (48, 512),
            "max_epsilon": (1e-3, 1e6),
            "heads": (1, self.devices),
            "tune_s": (0, 3600),
            "paint_px": (64, 4096),
            "detail": (0, 1),
            "paintings": (1, 20),
            "judged_records": (1, 500),
            "judged_pairs": (0, 100),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be between {low} and {high:g}, not {value}")
        if bool(self.photos) != bool(self.art):
            raise ConfigError(
                "photos and art belong together", hint="give both --photos DIR and --art DIR, or neither of them"
            )
        if self.federation.simulated_population not in (0, self.devices):
            raise ConfigError(
                f"simulated_population is {self.federation.simulated_population}, but there are {self.devices} devices",
                hint="leave simulated_population out of the file: the demo fills it in",
            )


def default_path() -> Path:
    """Where the settings that easel ships lie."""
    return Path(__file__).parent / "configs" / "demo.toml"


def load_demo(
    path: Path | str | None = None,
    *,
    devices: int | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    photos: str = "",
    art: str = "",
) -> DemoConfig:
    """Read a demo's settings and put the command line's options on top.

    Raises
    ------
    StorageError
        If the file cannot be read.
    ConfigError
        On an unknown key, a wrong type or a value out of range.
    """
    config = load_toml(path or default_path(), DemoConfig)
    number = config.devices if devices is None else devices
    if number < 2:
        raise ConfigError(f"devices must be between 2 and 200, not {number}", hint="federated training needs a few")
    federation = dataclasses.replace(
        config.federation,
        rounds=config.federation.rounds if rounds is None else rounds,
        seed=config.federation.seed if seed is None else seed,
        simulated_population=number,
        simulated_cohort=number,
        rescale_noise=True,
        min_nodes=number,
    )
    return dataclasses.replace(
        config,
        devices=number,
        heads=min(config.heads, number),
        seed=config.seed if seed is None else seed,
        photos=str(Path(photos).resolve()) if photos else config.photos,
        art=str(Path(art).resolve()) if art else config.art,
        federation=federation,
    )
