"""What generator and discriminator minimise, per training record.

The same two functions serve central training, plain local training and the private step; a batch
is a :class:`shared_model.records.Batch` of fixed records.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model import adversarial, losses
from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.records import Batch

__all__ = ["Draws", "discriminator_loss", "draw", "generator_loss", "generator_terms"]


@dataclass(frozen=True)
class Draws:
    """Everything random in a step, drawn before the data is seen and shared by the whole batch.

    Parameters
    ----------
    noise
        ``(1, 1, S, S)`` painting noise.
    patches, bands
        Filter banks of :func:`losses.sliced_patches` and :func:`losses.sliced_bands`.
    marks_first, marks_second
        Filter banks of :func:`losses.marks`.
    offset
        Sampling offset.
    mix
        Where the Wasserstein gradient penalty looks, in [0, 1].
    """

    noise: Tensor
    patches: tuple[Tensor, ...]
    bands: tuple[Tensor, ...]
    marks_first: tuple[Tensor, ...]
    marks_second: tuple[Tensor, ...]
    offset: int
    mix: float

    def to(self, device: torch.device | str) -> Draws:
        """Return a copy on ``device``."""
        return Draws(
            self.noise.to(device),
            tuple(t.to(device) for t in self.patches),
            tuple(t.to(device) for t in self.bands),
            tuple(t.to(device) for t in self.marks_first),
            tuple(t.to(device) for t in self.marks_second),
            self.offset,
            self.mix,
        )


def _filters(count: int, channels: int, side: int, generator: torch.Generator, *, zero_mean: bool) -> Tensor:
    kernel = torch.randn(count, channels, side, side, generator=generator)
    if zero_mean:
        kernel = kernel - kernel.mean((2, 3), keepdim=True)
    unit: Tensor = kernel / kernel.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return unit


def draw(generator: torch.Generator, *, size_px: int) -> Draws:
    """Draw a step's randomness for records of ``size_px`` pixels."""
    return Draws(
        noise=torch.randn(1, 1, size_px, size_px, generator=generator),
        patches=tuple(_filters(12, 3, 5, generator, zero_mean=False) for _ in range(3)),
        bands=tuple(_filters(16, 3, 5, generator, zero_mean=False) for _ in range(3)),
        marks_first=tuple(_filters(16, 1, 5, generator, zero_mean=True) for _ in range(3)),
        marks_second=tuple(_filters(16, 16, 3, generator, zero_mean=True) for _ in range(3)),
        offset=int(torch.randint(0, 1 << 16, (), generator=generator)),
        mix=float(torch.rand((), generator=generator)),
    )


def generator_terms(
    backbone: Backbone, batch: Batch, draws: Draws, *, loss: LossConfig, modulation: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return every weighted term of the generator's loss, each ``(N,)``, and the outputs.

    ``modulation`` ``(1 or N, M)`` replaces the style encoder's numbers (used when a head is tuned).
    """
    code = backbone.encode(batch.reference) if modulation is None else modulation
    code = code.expand(len(batch), -1)
    noise = draws.noise.expand(len(batch), -1, -1, -1)
    output = backbone.paint(batch.colored, batch.draft, code, noise)
    photo, art = 1 - batch.restyle, batch.restyle
    terms = {
        "structure": loss.structure * photo * losses.structure(output, batch.photo),
        "keep": loss.keep * photo * losses.keep(output, batch.draft, batch.photo),
        "tone": loss.tone * photo * losses.tone(output, batch.draft),
        "restore": loss.restore * art * losses.restore(output, batch.real),
        "bands": loss.bands * losses.sliced_bands(output, batch.real, draws.bands, draws.offset),
        "patches": loss.patches * losses.sliced_patches(output, batch.real, draws.patches, draws.offset),
        "marks": loss.marks * losses.marks(output, batch.real, draws.marks_first, draws.marks_second),
        "gamut": loss.gamut * losses.gamut(output),
    }
    if loss.adversarial != "none" and loss.adversarial_weight > 0:
        logits = backbone.discriminator(output, backbone.discriminator.embed(batch.reference))
        terms["adversarial"] = loss.adversarial_weight * adversarial.generator_loss(loss.adversarial, logits)
    return terms, output


def generator_loss(backbone: Backbone, batch: Batch, draws: Draws, *, loss: LossConfig) -> tuple[Tensor, Tensor]:
    """Return the generator's loss ``(N,)`` and its outputs ``(N, 3, S, S)``."""
    terms, output = generator_terms(backbone, batch, draws, loss=loss)
    return torch.stack(list(terms.values())).sum(0), output


def discriminator_loss(
    backbone: Backbone, batch: Batch, outputs: Tensor, draws: Draws, *, loss: LossConfig, penalty: bool = False
) -> Tensor:
    """Return the discriminator's loss ``(N,)`` on the generator's ``outputs`` (detached by the caller).

    With ``penalty`` the gradient penalty of :func:`adversarial.gradient_penalty` is added,
    weighted by ``loss.penalty``.
    """
    if loss.adversarial == "none":
        return torch.zeros(len(batch), device=outputs.device)
    critic = backbone.discriminator
    embedding = critic.embed(batch.reference)
    value = adversarial.discriminator_loss(loss.adversarial, critic(batch.real, embedding), critic(outputs, embedding))
    if penalty and loss.penalty > 0:
        mix = torch.full((len(batch),), draws.mix, device=outputs.device)
        value = value + loss.penalty * adversarial.gradient_penalty(
            loss.adversarial, lambda x: critic(x, embedding), batch.real, outputs, mix
        )
    return value
