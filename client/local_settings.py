"""How much and how a device trains in one round."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared_model.config import LossConfig
from shared_model.errors import ConfigError
from shared_model.mechanism import Mechanism

__all__ = ["SOLVERS", "LocalSettings"]

#: Local optimizers at user level.
SOLVERS = ("adamw", "sgd")


@dataclass(frozen=True)
class LocalSettings:
    """One device's work in one round; public, the same for every device of a cohort.

    Attributes
    ----------
    steps
        Optimizer steps.
    batch
        Records per step (user level). At example level the *expected* number, the public divisor
        of the summed gradients.
    lr, critic_lr
        AdamW step sizes of generator with style encoder, and of the discriminator.
    beta1, beta2, weight_decay
        Of AdamW.
    noise_multiplier
        Example level: deviation of the noise on the sum of gradients over ``bound``.
    sample_rate
        Example level: probability that a record is in a step; 1 uses all in every step, the
        better choice up to about 200 records (no empty batches, no sampling to trust).
    bound
        Example level: L2 clip of one record's joint gradient.
    balance
        Factor on the generator's gradient before the joint clip, so that both parts have about
        the same length (AdamW undoes the scale). Chosen on public data: with the shipped backbone
        the median norms are about 9 and 0.5.
    chunk
        Records differentiated together (``torch.func.vmap``); 1 is a loop and by far
        the smallest way; 4 together take 3.6 times its memory for .92 of its time.
    loss
        Weights of the losses.
    solver
        User level: ``"adamw"``, or ``"sgd"`` (plain steps, no momentum), which some papers assume.
    """

    steps: int = 8
    batch: int = 4
    lr: float = 2e-4
    critic_lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.99
    weight_decay: float = 0.0
    noise_multiplier: float = 0.0
    sample_rate: float = 1.0
    bound: float = 0.5
    balance: float = 0.05
    chunk: int = 1
    loss: LossConfig = field(default_factory=LossConfig)
    solver: str = "adamw"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "chunk"):
            _require(1 <= getattr(self, name) <= 1_000_000, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "critic_lr"):
            _require(0.0 < getattr(self, name) < 1.0, f"{name} must be between 0 and 1, not {getattr(self, name)}")
        for name in ("beta1", "beta2", "weight_decay"):
            _require(0.0 <= getattr(self, name) < 1.0, f"{name} must be in [0, 1), not {getattr(self, name)}")
        _require(
            0.0 <= self.noise_multiplier < 1e6, f"noise_multiplier must be at least 0, not {self.noise_multiplier}"
        )
        _require(0.0 < self.sample_rate <= 1.0, f"sample_rate must be in (0, 1], not {self.sample_rate}")
        _require(self.solver in SOLVERS, f"solver must be one of {', '.join(SOLVERS)}, not {self.solver!r}")
        for name in ("bound", "balance"):
            _require(0.0 < getattr(self, name) < 1e6, f"{name} must be positive, not {getattr(self, name)}")

    @property
    def betas(self) -> tuple[float, float]:
        """Both averaging constants of AdamW."""
        return self.beta1, self.beta2

    @property
    def mechanism(self) -> Mechanism:
        """What one example-level step costs; reserve ``steps`` of it before training."""
        return Mechanism(self.noise_multiplier, self.sample_rate, "example")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
