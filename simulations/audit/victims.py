"""Whom the attacks attack, and what the attacker gets to see of them.

The attacker is generous to itself: it knows the weights, the public draws of the step, the painting
of a record, and everybody else's updates exactly, so it can subtract them from a released sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from client.local_settings import LocalSettings
from client.private_training import train_example_level, train_user_level
from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.images import to_tensor
from shared_model.noise import secure_normal
from shared_model.privacy import clip, dequantize, quantize
from shared_model.records import Batch, make_records
from simulations.painters import paint
from simulations.pictures import crops, default_photos

__all__ = ["SIGHTS", "Sights", "make_victims", "record_gradient"]

#: What an attacker may see, from the barest to the best protected.
SIGHTS = ("bare gradient", "device update", "user level", "example level")

_LOSS = LossConfig()
_PAINTERS = ("impressionist", "oil", "watercolor", "woodcut")
_SOURCES = ("astronaut_face", "chelsea_face", "coffee_cup", "camera_man", "rocket_pad", "motorcycle_engine")


@dataclass(frozen=True)
class Sights:
    """How what an attacker sees comes about.

    Parameters
    ----------
    local
        Local training: steps, batch, step size; its bound and noise are those of example level.
    clip
        Of a device's whole update.
    noise_multiplier
        User level: on the sum, for a nominal fleet.
    """

    local: LocalSettings
    clip: float = 1.0
    noise_multiplier: float = 0.81

    def of(self, backbone: Backbone, records: Batch, *, seed: int, wanted: Sequence[str] = SIGHTS) -> dict[str, Tensor]:
        """Return what is seen of a device with these records, (P,) each, as a direction of descent."""
        seen: dict[str, Tensor] = {}
        if "bare gradient" in wanted:
            draws = objective.draw(torch.Generator().manual_seed(seed), size_px=records.size_px)
            each = [record_gradient(backbone, records.select([i]), draws) for i in range(len(records))]
            seen["bare gradient"] = -torch.stack(each).mean(0)
        if {"device update", "user level"} & set(wanted):
            update = train_user_level(backbone, records, settings=self.local, seed=seed)
            sent = dequantize(quantize(clip(update, bound=self.clip), bound=self.clip))
            seen |= {"device update": sent, "user level": self.noised(sent)}
        if "example level" in wanted:
            private = dataclasses.replace(self.local, batch=len(records), sample_rate=1.0)
            seen["example level"] = train_example_level(backbone, records, settings=private, seed=seed)[0]
        return {name: seen[name] for name in wanted}

    def noised(self, update: Tensor) -> Tensor:
        """Return an update as the released sum shows it to somebody who knows all others: fresh noise each time."""
        noise = secure_normal(update.shape, std=self.noise_multiplier * self.clip)
        return (update.double() + noise).float()


def record_gradient(backbone: Backbone, record: Batch, draws: objective.Draws, *, graph: bool = False) -> Tensor:
    """Return the gradient of one record's two losses, (P,), in the order of :mod:`shared_model.split`."""
    named = dict(backbone.named_parameters())
    losses, output = objective.generator_loss(backbone, record, draws, loss=_LOSS)
    critic = objective.discriminator_loss(backbone, record, output.detach(), draws, loss=_LOSS)
    painters = [name for name in named if not name.startswith("discriminator.")]
    critics = [name for name in named if name.startswith("discriminator.")]
    found: Mapping[str, Tensor] = {
        **_gradients(losses.sum(), {name: named[name] for name in painters}, graph=graph),
        **_gradients(critic.sum(), {name: named[name] for name in critics}, graph=False),
    }
    return torch.cat([found[name].reshape(-1) for name in sorted(named)])


def make_victims(count: int, *, size_px: int = 48, seed: int = 0) -> Batch:
    """Make records from scikit-image's photos and pictures by easel's own painters."""
    photos = default_photos()
    each = -(-count // len(_SOURCES))
    cut = [crops(photos[name], each, size=128, seed=seed) for name in _SOURCES]
    mixed = [to_tensor(group[index]) for index in range(each) for group in cut][:count]
    arts = [
        to_tensor(paint(crops(photos["coffee"], 4, size=160, seed=seed)[index], name, seed=seed))
        for index, name in enumerate(_PAINTERS)
    ]
    return make_records(mixed, arts, count=count, size_px=size_px, seed=seed)


def _gradients(loss: Tensor, named: Mapping[str, Tensor], *, graph: bool) -> dict[str, Tensor]:
    found = torch.autograd.grad(
        loss, list(named.values()), create_graph=graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(named, found, strict=True))
