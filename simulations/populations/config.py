"""What a simulated population is: who gets which pictures, and how its devices behave."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared_model.config import HeadConfig
from shared_model.errors import ConfigError

__all__ = ["AVAILABILITY", "KINDS", "ChurnConfig", "PopulationConfig"]

#: How pictures can be dealt.
KINDS = ("natural", "iid", "dirichlet", "quantity", "domain")
#: When devices can be reached.
AVAILABILITY = ("always", "hourly")


@dataclass(frozen=True)
class ChurnConfig:
    """How devices behave, in virtual time that costs nothing; the default is a fleet that always answers.

    Parameters
    ----------
    availability
        ``"always"``, or ``"hourly"``: each device can be reached during ``online_h`` hours of the day, most
        of them at night. One that is asked while it is away answers when it comes back, if the round's
        deadline has not passed.
    online_h
        Hours a day, 1 to 24, that an hourly device can be reached.
    device_s
        Virtual seconds in which a usual device answers; each varies by up to a fifth.
    slow_share, slow_factor
        Share of devices that take ``slow_factor`` times as long.
    failing_share, failure_rate
        Share of devices that, asked, fall silent with probability ``failure_rate``.
    start_h
        Hour of the day, 0 to 24, at which the simulation starts.
    seed
        The same seed gives the same fates in every run and on every engine.
    """

    availability: str = "always"
    online_h: float = 8.0
    device_s: float = 60.0
    slow_share: float = 0.0
    slow_factor: float = 10.0
    failing_share: float = 0.0
    failure_rate: float = 0.5
    start_h: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.availability not in AVAILABILITY:
            raise ConfigError(f"availability must be one of {', '.join(AVAILABILITY)}, not {self.availability!r}")
        bounds: dict[str, tuple[float, float]] = {
            "online_h": (1.0, 24.0),
            "device_s": (0.0, 1e6),
            "slow_share": (0.0, 1.0),
            "slow_factor": (1.0, 1e6),
            "failing_share": (0.0, 1.0),
            "failure_rate": (0.0, 1.0),
            "start_h": (0.0, 24.0),
        }
        _check(self, bounds)

    @property
    def calm(self) -> bool:
        """Every device can always be reached, and answers at its usual speed."""
        return self.availability == "always" and not self.slow_share and not self.failing_share


@dataclass(frozen=True)
class PopulationConfig:
    """Who has which pictures.

    Parameters
    ----------
    kind
        ``"natural"``: artworks of one hand a device. ``"iid"``: artworks at random. ``"dirichlet"``: each
        device draws its own mixture of styles from a Dirichlet distribution, then artworks from it (Hsu,
        Qi & Brown 2019). ``"quantity"``: artworks at random, numbers of photos and records skewed by a
        Dirichlet distribution over devices. ``"domain"``: artworks at random, photos of one domain a
        device: a subfolder each, or where there are none the same kind of photos under other light.
    devices
        Simulated people.
    photos_each, art_each
        Pictures on which each trains; with ``"quantity"`` the mean number of photos. Less where the folders
        hold less.
    test_photos, test_records
        Photos that each device keeps away from training, and the records made of them and of an artwork
        that it does not train on either (where its share of artworks has another): its personal test.
    records, record_px
        Training pairs on each device (the mean with ``"quantity"``), and their side in pixels.
    alpha
        Concentration of the Dirichlet distribution: small is skewed, large is even.
    styles, pictures_px, held_photos, held_art
        Of the built-in pictures only: number of tastes that are painted (with ``"natural"`` at least one a
        device), short side of a picture, and how many pictures belong to nobody.
    domains
        How many kinds of light there are where photos have no subfolders, 2 to 5.
    seed
        Of people and pictures.
    head
        How the frozen heads that draft the records are built.
    churn
        How devices behave.
    """

    kind: str = "natural"
    devices: int = 8
    photos_each: int = 8
    art_each: int = 2
    test_photos: int = 2
    test_records: int = 4
    records: int = 12
    record_px: int = 64
    alpha: float = 0.5
    styles: int = 8
    pictures_px: int = 256
    held_photos: int = 12
    held_art: int = 8
    domains: int = 3
    seed: int = 0
    head: HeadConfig = field(default_factory=HeadConfig)
    churn: ChurnConfig = field(default_factory=ChurnConfig)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind of population must be one of {', '.join(KINDS)}, not {self.kind!r}")
        bounds: dict[str, tuple[float, float]] = {
            "devices": (1, 10_000),
            "photos_each": (1, 1000),
            "art_each": (1, 100),
            "test_photos": (0, 100),
            "test_records": (0, 1000),
            "records": (1, 10_000),
            "record_px": (48, 512),
            "alpha": (1e-3, 1e6),
            "styles": (1, 200),
            "pictures_px": (64, 2048),
            "held_photos": (1, 1000),
            "held_art": (1, 1000),
            "domains": (2, 5),
            "seed": (0, 2**31 - 1),
        }
        _check(self, bounds)
        if self.record_px % 4:
            raise ConfigError(f"record_px must be a multiple of 4, not {self.record_px}")

    @property
    def tests(self) -> int:
        """Photos that each device keeps for its personal test; 0 where there is none."""
        return self.test_photos if self.test_records else 0


def _check(config: object, bounds: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in bounds.items():
        if not low <= getattr(config, name) <= high:
            raise ConfigError(f"{name} must be between {low:g} and {high:g}, not {getattr(config, name)}")
