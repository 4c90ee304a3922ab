"""What an experiment measures: the shared backbone on held-out pictures, and each device with its own network."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from client.data import load_device
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import find_pictures, load_tensor, save_picture, to_uint8
from shared_model.records import Batch
from shared_model.stylize import Options, stylize
from simulations.evaluation import Judge
from simulations.experiment.settings import EvaluationConfig
from simulations.methods.personal import personal_loss
from simulations.populations import Settlement, test_records

__all__ = ["Easel", "Judged", "Measures"]


@dataclass(frozen=True)
class Judged:
    """What is known of a shared backbone; NaN where it was not measured.

    Parameters
    ----------
    loss
        On held-out records, without the adversarial term, which compares a backbone with its own critic.
    quality, content, style
        Of held-out pairs, 0 to 1.
    """

    loss: float = math.nan
    quality: float = math.nan
    content: float = math.nan
    style: float = math.nan


@dataclass(frozen=True)
class Easel:
    """A held-out photo that is to be painted in the taste of one device.

    Parameters
    ----------
    photo
        Number of the photo.
    device
        Number of the device.
    picture, art
        ``(1, 3, H, W) float in [0, 1]``.
    head
        Fitted on the device's first artwork.
    """

    photo: int
    device: int
    picture: Tensor
    art: Tensor
    head: Head


@dataclass(frozen=True)
class Measures:
    """Fixed records and pictures of one population; the same for every method.

    Parameters
    ----------
    judge
        Of the shared backbone; ``None`` if nothing is measured of it.
    tests
        Personal test records of every device, ``None`` where it has none.
    easels
        What is painted under every method.
    config
        What is measured.
    """

    judge: Judge | None
    tests: tuple[Batch | None, ...]
    easels: tuple[Easel, ...]
    config: EvaluationConfig
    seed: int

    @classmethod
    def of(cls, people: Settlement, *, config: EvaluationConfig, painting: bool) -> Measures:
        """Prepare what is measured of a population; ``painting``: also fit the heads that paint."""
        judge = _judge(people, config) if config.records or config.pairs else None
        tests = tuple(test_records(home) for home in people.devices)
        easels = tuple(_easels(people, config)) if painting else ()
        return cls(judge, tests, easels, config, people.config.seed)

    def judged(self, backbone: Backbone, *, quality: bool) -> Judged:
        """Measure a shared backbone; its quality only when asked, since that paints pictures."""
        if self.judge is None:
            return Judged()
        if quality:
            return Judged(**vars(self.judge.measure(backbone)))
        return Judged(loss=self.judge.loss_of(backbone)) if self.config.records else Judged()

    def personal(self, network: Callable[[int], Backbone]) -> list[float]:
        """Return the loss of every device on its own test records; NaN for one that has none."""
        losses = []
        for device, records in enumerate(self.tests):
            losses.append(math.nan if records is None else personal_loss(records, network(device), seed=self.seed))
        return losses

    def paint(self, network: Callable[[int], Backbone], folder: Path) -> list[str]:
        """Paint every easel with its device's own network; returns the files' names in ``folder``."""
        options, names = Options(size_px=self.config.paint_px, seed=self.seed), []
        for easel in self.easels:
            backbone = network(easel.device)
            head = easel.head.attuned(backbone, [easel.art], seed=self.seed)
            painted = stylize(easel.picture, head=head, backbone=backbone, options=options)
            names.append(f"photo-{easel.photo}_taste-{easel.device}.png")
            save_picture(folder / names[-1], to_uint8(painted))
        return names

    def originals(self, folder: Path) -> None:
        """Save the photos and the artworks beside which paintings are shown."""
        for easel in self.easels:
            for name, picture in ((f"photo-{easel.photo}", easel.picture), (f"taste-{easel.device}", easel.art)):
                if not (folder / f"{name}.png").exists():
                    save_picture(folder / f"{name}.png", to_uint8(picture))


def _judge(people: Settlement, config: EvaluationConfig) -> Judge:
    """Prepare held-out pictures: every record another photo, artworks in turn."""
    px = max(256, config.paint_px)
    works = min(len(people.held_art), max(1, config.pairs, config.records // 4))
    photos = _shuffled(people.held_photos, people.config.seed)[: max(config.records, config.pairs, 1)]
    return Judge.of(
        [load_tensor(path, px) for path in photos],
        [load_tensor(path, px) for path in _shuffled(people.held_art, people.config.seed)[:works]],
        pairs=config.pairs,
        records=max(1, config.records),
        record_px=people.config.record_px,
        options=Options(size_px=config.paint_px, seed=people.config.seed),
        seed=people.config.seed,
    )


def _easels(people: Settlement, config: EvaluationConfig) -> list[Easel]:
    photos = [load_tensor(path, config.paint_px) for path in people.held_photos[: config.photos]]
    easels: list[Easel] = []
    for device, home in enumerate(people.devices[: config.tastes] if photos else ()):
        works = find_pictures([load_device(home).art])
        if not works:
            raise InputError(f"device {device} has no artwork")
        art = load_tensor(works[0], config.paint_px)
        head = Head.fit([art], seed=people.config.seed)
        easels.extend(Easel(number, device, photo, art, head) for number, photo in enumerate(photos))
    return easels


def _shuffled(paths: Sequence[Path], seed: int) -> list[Path]:
    found = list(paths)
    random.Random(f"{seed}/held").shuffle(found)
    return found
