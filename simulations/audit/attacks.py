"""Both attacks on the shipped backbone, with and without privacy, and one picture of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from client.local_settings import LocalSettings
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError
from shared_model.images import save_picture, to_uint8
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon
from shared_model.pyramid import luminance
from simulations.audit.inversion import invert, likeness
from simulations.audit.membership import Outcome, attack_members
from simulations.audit.victims import SIGHTS, Sights, make_victims

__all__ = ["PICTURE", "AttackConfig", "attack"]

#: Columns: the truth, then one per sight in the order of ``SIGHTS``; one row per victim.
PICTURE = "reconstructions.png"

Facts = dict[str, Any]


@dataclass(frozen=True)
class AttackConfig:
    """How hard the attacks try.

    Parameters
    ----------
    victims, search_steps
        Records to reconstruct, and steps of each search.
    devices, records_each
        Of the membership attack.
    releases
        Draws of user-level noise per device.
    local_steps, learning_rate, record_noise
        Local training on the devices; noise multiplier of each example-level step.
    fleet_noise
        User-level noise multiplier: 0.81 is epsilon 2 for 100,000 devices, 1000 a round, 200 rounds.
    seed
        Of everything but noise.
    """

    victims: int = 3
    search_steps: int = 400
    devices: int = 16
    records_each: int = 4
    releases: int = 32
    local_steps: int = 4
    learning_rate: float = 1e-3
    record_noise: float = 2.0
    fleet_noise: float = 0.81
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("victims", "search_steps", "records_each", "releases", "local_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.devices < 2:
            raise ConfigError(f"devices must be at least 2, not {self.devices}")

    @property
    def sights(self) -> Sights:
        """How what the attacker sees comes about."""
        local = LocalSettings(
            steps=self.local_steps,
            batch=2,
            lr=self.learning_rate,
            critic_lr=self.learning_rate,
            noise_multiplier=self.record_noise,
        )
        return Sights(local, noise_multiplier=self.fleet_noise)


def attack(backbone: Backbone, folder: Path, *, config: AttackConfig, follow: Callable[[float, str], None]) -> Facts:
    """Attack, write :data:`PICTURE` into ``folder``, and return what came of it, JSON-ready.

    The example-level epsilon in the result is that of the attacked training alone, at delta 1e-5.
    """
    records = make_victims(max(config.victims, config.devices * config.records_each), seed=config.seed)
    mechanism = Mechanism(config.record_noise, 1.0, "example")
    outcomes = _members(backbone, config, follow, records=records)
    return {
        "membership": [asdict(outcome) for outcome in outcomes],
        "inversion": _invert_all(backbone, folder, config, follow, records=records),
        "local_epsilon": epsilon([(mechanism, config.local_steps)], delta=1e-5),
        "picture": PICTURE,
        "config": asdict(config),
    }


def _members(
    backbone: Backbone, config: AttackConfig, follow: Callable[[float, str], None], *, records: Any
) -> Sequence[Outcome]:
    follow(0.0, "membership")
    some = records.select(range(config.devices * config.records_each))
    return attack_members(
        backbone,
        some,
        devices=config.devices,
        sights=config.sights,
        seed=config.seed,
        releases=config.releases,
    )


def _invert_all(
    backbone: Backbone, folder: Path, config: AttackConfig, follow: Callable[[float, str], None], *, records: Any
) -> list[Facts]:
    """Reconstruct the liveliest records from each sight; chance is the likeness to other records.

    Of a blank wall one could not tell whether it was found.
    """
    found: list[Facts] = []
    rows = []
    lively = luminance(records.colored).std((1, 2, 3)).argsort(descending=True).tolist()
    for victim in range(config.victims):
        record = records.select([lively[victim]])
        row = [record.colored]
        seen = config.sights.of(backbone, record, seed=config.seed + victim)
        for number, sight in enumerate(SIGHTS):
            follow((victim + number / len(SIGHTS)) / config.victims, f"inversion of record {victim}, {sight}")
            got = invert(backbone, record, seen[sight], seed=config.seed + victim, steps=config.search_steps)
            row.append(got.picture)
            others = [records.select([i]).colored for i in lively if i != lively[victim]]
            chance = max(likeness(got.picture, other) for other in others[:12])
            found.append(
                {"victim": victim, "sight": sight, "match": got.match, "likeness": got.likeness, "chance": chance}
            )
        rows.append(torch.cat([F.pad(F.interpolate(part, scale_factor=2), (2, 2, 2, 2), value=1.0) for part in row], 3))
    save_picture(folder / PICTURE, to_uint8(torch.cat(rows, 2)))
    return found
