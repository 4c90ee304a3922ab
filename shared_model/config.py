"""Configuration: frozen dataclasses, read once from TOML, unknown keys refused, hashed.

Every configuration of easel is a frozen dataclass with defaults. :func:`parse` turns a mapping
(from TOML, JSON or a manifest) into one (:mod:`shared_model.parsing`); :func:`digest` gives the short
hash that is written into every artefact.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shared_model.errors import ConfigError
from shared_model.parsing import load_toml, parse

__all__ = [
    "ADVERSARIAL",
    "STROKES",
    "TRUNKS",
    "HeadConfig",
    "LossConfig",
    "ModelConfig",
    "TrainConfig",
    "digest",
    "load_toml",
    "parse",
    "to_dict",
]

TRUNKS = ("cnn", "resnet")
ADVERSARIAL = ("bce", "hinge", "lsgan", "none", "wasserstein-gp")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the backbone.

    Parameters
    ----------
    trunk
        ``"resnet"`` (residual blocks) or ``"cnn"`` (the same layers without skips).
    width
        Channels of the trunk, which works at a quarter of the resolution.
    blocks
        Trunk blocks, two 3x3 convolutions each.
    code_dim
        Length of the style code before it becomes modulation numbers.
    encoder_width
        Channels of the style encoder's first stage; the others are 2, 8/3 and 4 times as wide.
    critic_width
        Channels of the discriminator's first layer.
    """

    trunk: str = "resnet"
    width: int = 40
    blocks: int = 4
    code_dim: int = 64
    encoder_width: int = 24
    critic_width: int = 32

    def __post_init__(self) -> None:
        _require(self.trunk in TRUNKS, f"trunk must be one of {', '.join(TRUNKS)}, not {self.trunk!r}")
        for name in ("width", "blocks", "code_dim", "encoder_width", "critic_width"):
            _require(1 <= getattr(self, name) <= 1024, f"{name} must be between 1 and 1024, not {getattr(self, name)}")


@dataclass(frozen=True)
class HeadConfig:
    """How a private head is built from pictures and how it drafts.

    Parameters
    ----------
    canvas_px
        Short side at which pictures are read and drafts are painted, in pixels.
    levels
        Pyramid levels of the patch dictionary; more levels follow the photo less.
    patch
        Side of a patch in pixels, odd.
    atoms
        Patches kept per level.
    components
        Principal components used to compare patches.
    candidates
        Patches looked at per level before ``atoms`` medoids are chosen.
    sharpness
        Weight of the photo's own detail when going up a pyramid level.
    brush
        Half the width of the strokes that a photo is laid in with before it is looked up, in pixels of half the
        canvas's size; 0: it is not.
    variety
        How far the colors of these vary from stroke to stroke, times the owner's.
    roughness
        Bristles of noise added before each look-up, in units of the style band's standard deviation:
        broken color and visible strokes on flat areas.
    stroke
        Half the length of strokes and bristles, in pixels of half the canvas's size.
    hatch
        Half the width of the lines that a photo is hatched with, in pixels of the canvas; 0: it is not. Set by
        :func:`shared_model.hatching.hatched` where an owner's pictures are made with one ink.
    areas
        How many tones a photo's areas are filled with evenly (:mod:`shared_model.areas`); 0: they are not.
    wash
        How unevenly pigment lies in the washes that a photo is painted in (:mod:`shared_model.washes`); 0: it is not.
    outlines
        Share of the pixels that outlines cover, of photos hatched or filled evenly.
    vivid
        How far a photo's contrast and strength of color move onto the owner's where its hues stay what they are
        (``palette`` below 1), 0 to 1.
    measured
        Take ``brush`` and ``stroke`` for a typical painter's, and scale them by the owner's marks when a head is made
        (:func:`shared_model.marks.scaled`).
    abstraction
        How much of the photo's own grain is flattened before it is painted, 0 to 1.
    completeness
        Exponent of the normaliser that makes rarely chosen patches cheaper (0 off, 1 full), after
        Granot et al. 2022 (GPNN), eq. 2.
    hand
        How far the backbone may move the draft, 0 (not at all) to 1 (all the way).
    tone
        How far broad areas may leave the photo's colors (in the owner's palette), 0 to 1.
    palette
        How far colors move onto the owner's palette, 0 (the photo's own) to 1 (all the way).
    hues
        How much of the photo's hues a painting has, pixel by pixel, as far as it is not in the owner's palette, 0 to 1.
    softness
        What look-ups do not see: patches and photo are compared through a blur of this deviation, in pixels.
        Above 0 (broad heads of before, faces to sketches) the owner's strokes are taken over whole, wherever they fit
        broadly (Image Analogies; Hertzmann et al. 2001), hardly blending where they overlap. 0: every mark counts.
    bias
        How far a patch takes over the mean color of what it replaces, 0 to 1, and so is chosen for its strokes more
        than for its tone (Darabi et al. 2012, Image Melding). The coarsest of several levels has none: color breaks
        there.
    structure
        How much of the photo's own structure shows, times what ``detail`` asks for, 0 to 1.
    surface
        How far the strength of marks is moved onto that of the owner's, 0 to 1.
    """

    canvas_px: int = 512
    levels: int = 3
    patch: int = 7
    atoms: int = 512
    components: int = 24
    candidates: int = 8000
    sharpness: float = 1.5
    brush: int = 0
    variety: float = 1.5
    roughness: float = 0.6
    stroke: int = 5
    hatch: float = 0.0
    areas: int = 0
    wash: float = 0.0
    outlines: float = 0.0
    vivid: float = 0.0
    measured: bool = False
    abstraction: float = 0.5
    completeness: float = 0.5
    hand: float = 0.45
    tone: float = 0.05
    palette: float = 1.0
    hues: float = 0.8
    softness: float = 0.0
    bias: float = 1.0
    structure: float = 1.0
    surface: float = 1.0

    def __post_init__(self) -> None:
        _require(32 <= self.canvas_px <= 4096, f"canvas_px must be between 32 and 4096, not {self.canvas_px}")
        _require(1 <= self.levels <= 5, f"levels must be between 1 and 5, not {self.levels}")  # head_format.BANDS
        _require(self.patch % 2 == 1 and 5 <= self.patch <= 15, f"patch must be odd, 5 to 15, not {self.patch}")
        _require(1 <= self.atoms <= 16384, f"atoms must be between 1 and 16384, not {self.atoms}")
        _require(
            1 <= self.components <= 3 * self.patch**2,
            f"components must be between 1 and {3 * self.patch**2}, not {self.components}",
        )
        _require(0 <= self.brush <= 16, f"brush must be between 0 and 16, not {self.brush}")
        _require(0 <= self.stroke <= 64, f"stroke must be between 0 and 64, not {self.stroke}")
        _require(self.areas == 0 or 2 <= self.areas <= 64, f"areas must be 0, or between 2 and 64, not {self.areas}")
        _require(self.candidates >= self.atoms, "candidates must be at least atoms")
        for name, high in (
            ("sharpness", 4.0),
            ("variety", 4.0),
            ("roughness", 4.0),
            ("completeness", 1.0),
            ("wash", 1.0),
            ("hand", 1.0),
            ("tone", 1.0),
            ("abstraction", 1.0),
            ("palette", 1.0),
            ("hues", 1.0),
            ("softness", 4.0),
            ("bias", 1.0),
            ("structure", 1.0),
            ("surface", 1.0),
            ("hatch", 4.0),
            ("outlines", 0.5),
            ("vivid", 1.0),
        ):
            value = getattr(self, name)
            _require(0.0 <= value <= high, f"{name} must be between 0 and {high}, not {value}")

    @property
    def graphic(self) -> bool:
        """Whether paintings are hatched, filled or washed: nothing of a photo's own texture belongs into them."""
        return self.hatch > 0 or self.areas > 0 or self.wash > 0

    def bias_at(self, level: int) -> float:
        """Return the bias of a pyramid level, 0 for the finest."""
        return 0.0 if 1 < self.levels == level + 1 else self.bias


#: Kinds of heads by the strokes that they take over: marks of a few pixels; broad strokes, painted more freely; none,
#: but even areas and outlines; none, but washes.
STROKES: Mapping[str, HeadConfig] = MappingProxyType(
    {
        "fine": HeadConfig(),
        "broad": HeadConfig(
            patch=9,
            atoms=1024,
            brush=3,
            stroke=10,
            measured=True,
            roughness=0.7,
            abstraction=0.0,
            structure=0.6,
            hand=0.3,
        ),
        "flat": HeadConfig(
            levels=1,
            patch=9,
            areas=8,
            outlines=0.08,
            roughness=0.0,
            sharpness=1.0,
            bias=0.3,
            abstraction=0.0,
            tone=0.02,
            hand=0.3,
            surface=0.6,
        ),
        "wash": HeadConfig(
            levels=1,
            patch=9,
            wash=1.0,
            roughness=0.0,
            sharpness=1.0,
            bias=0.3,
            abstraction=0.0,
            tone=0.08,
            hand=0.3,
            structure=0.7,
            surface=0.5,
        ),
    }
)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the training losses (:mod:`shared_model.losses`); 0 switches a term off."""

    adversarial: str = "hinge"
    adversarial_weight: float = 0.5
    structure: float = 4.0
    keep: float = 1.0
    tone: float = 2.0
    bands: float = 1.0
    patches: float = 0.7
    marks: float = 1.5
    gamut: float = 5.0
    restore: float = 0.4
    penalty: float = 1.0

    def __post_init__(self) -> None:
        _require(
            self.adversarial in ADVERSARIAL,
            f"adversarial must be one of {', '.join(ADVERSARIAL)}, not {self.adversarial!r}",
        )
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                _require(0.0 <= value <= 1000.0, f"{item.name} must be between 0 and 1000, not {value}")


@dataclass(frozen=True)
class TrainConfig:
    """Central training (``easel train``).

    Parameters
    ----------
    steps, batch
        Optimiser steps and records per step.
    restyle_share
        Share of destylise-restyle records (Section "Destylise" in docs/model.md) in a batch.
    crop_px
        Side of a training crop, in pixels of the 512 px canvas.
    record_px
        Side of a drafted record, from which crops are taken.
    pool
        Drafted records kept in memory; the oldest are replaced.
    first_visits, visits
        Paintings from which records are made before the first step, and after every epoch.
    photos_per_visit, restyles_per_visit
        Photos drafted (two records each) and restyle records made per visited painting.
    epoch_steps
        Steps between validations, sample grids and checkpoints.
    learning_rate, critic_rate
        AdamW step sizes of generator and discriminator.
    weight_decay
        Decoupled weight decay (Loshchilov & Hutter 2019).
    fade
        Share of the run, at its end, over which the step size falls linearly to zero.
    ema
        Decay of the averaged weights that are saved.
    validation_share, test_share
        Shares of the photos and of the paintings held out, chosen by a hash of the file's content.
    seed
        Seed of everything random.
    """

    steps: int = 8000
    batch: int = 4
    restyle_share: float = 0.25
    crop_px: int = 128
    record_px: int = 256
    pool: int = 900
    first_visits: int = 40
    visits: int = 12
    photos_per_visit: int = 5
    restyles_per_visit: int = 3
    epoch_steps: int = 250
    learning_rate: float = 6e-4
    critic_rate: float = 2e-3
    weight_decay: float = 1e-4
    fade: float = 0.4
    ema: float = 0.998
    validation_share: float = 0.05
    test_share: float = 0.05
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    head: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "pool", "first_visits", "photos_per_visit", "epoch_steps"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("restyle_share", "fade", "validation_share", "test_share"):
            _require(0.0 <= getattr(self, name) <= 1.0, f"{name} must be between 0 and 1")
        _require(self.crop_px % 8 == 0 and self.crop_px >= 48, "crop_px must be a multiple of 8, at least 48")
        _require(self.record_px >= self.crop_px, "record_px must be at least crop_px")
        _require(
            self.visits >= 0 and self.restyles_per_visit >= 0, "visits and restyles_per_visit must not be negative"
        )
        _require(self.validation_share + self.test_share <= 0.5, "validation_share + test_share must be at most 0.5")
        _require(0.0 <= self.ema < 1.0, "ema must be in [0, 1)")
        for name in ("learning_rate", "critic_rate"):
            _require(0.0 < getattr(self, name) < 1.0, f"{name} must be in (0, 1)")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain, JSON-ready values."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(config).items()}


def digest(config: Any) -> str:
    """Return 12 hex digits that identify a configuration (SHA-256 of its canonical JSON)."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
