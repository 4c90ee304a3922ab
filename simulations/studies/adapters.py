"""Levels of tuning for the transfer study: modulation numbers, low-rank adapters, everything.

Low-rank adapters (LoRA; Hu et al. 2021): an adapted convolution uses ``W + s B A / rank`` with
``A (rank, in * k * k)`` and ``B (out, rank)``, B zero at the start, ``s`` the deviation of W. What is tuned
here is one owner's own, like a head: nothing of it is part of what devices share.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, TrainConfig
from shared_model.head import Head
from shared_model.images import resize_short
from shared_model.pool import Pool, halves
from shared_model.records import Batch, at_least, photo_record, restyle_record
from shared_model.weights import backbone_id

__all__ = ["LEVELS", "LowRank", "Tuned", "adapt", "add_adapters", "merge_adapters"]

#: What is tuned, from nothing to everything.
LEVELS = ("nothing", "modulation", "low-rank", "everything")
_RATES = {"modulation": 3e-2, "low-rank": 3e-3, "everything": 5e-4}
_BATCH = 2


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a convolution's weight."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape[0], weight[0].numel()
        scale = inputs**-0.5
        self.down = nn.Parameter(scale * torch.randn(rank, inputs, generator=generator))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.rank = rank

    def forward(self, weight: Tensor) -> Tensor:
        """``(out, in, k, k)`` to the same shape."""
        change = (self.up @ self.down) * (weight.std().detach() / self.rank)
        return weight + change.view_as(weight)


def _convolutions(backbone: Backbone) -> list[nn.Conv2d]:
    return [module for module in backbone.generator.modules() if isinstance(module, nn.Conv2d)]


def add_adapters(backbone: Backbone, *, rank: int, seed: int) -> list[nn.Parameter]:
    """Put adapters on every convolution of the generator, in place, and return their parameters.

    What the backbone paints does not change until they are trained.
    """
    generator = torch.Generator().manual_seed(seed)
    added: list[nn.Parameter] = []
    for convolution in _convolutions(backbone):
        adapter = LowRank(convolution.weight, rank, generator)
        parametrize.register_parametrization(convolution, "weight", adapter)
        added += [adapter.down, adapter.up]
    return added


def merge_adapters(backbone: Backbone) -> None:
    """Turn adapted convolutions into plain ones with the sum as their weight, in place."""
    for convolution in _convolutions(backbone):
        if parametrize.is_parametrized(convolution, "weight"):
            parametrize.remove_parametrizations(convolution, "weight", leave_parametrized=True)


@dataclass(frozen=True)
class Tuned:
    """A head, the backbone that finishes its drafts, and what it took.

    Parameters
    ----------
    parameters
        How many numbers were tuned.
    before, after
        Loss on the validation records without tuning and at the best step.
    """

    head: Head
    backbone: Backbone
    parameters: int
    before: float
    after: float


def adapt(
    head: Head,
    styles: Sequence[Tensor],
    *,
    backbone: Backbone,
    photos: Sequence[Tensor],
    validation: Sequence[Tensor],
    level: str,
    steps: int,
    rank: int,
    seed: int,
    record_px: int = 192,
    crop_px: int = 128,
) -> Tuned:
    """Tune one level of a head fitted on ``styles``; the best step on the validation records is kept.

    The given backbone is left as it is; a tuned copy comes back.
    """
    owner = copy.deepcopy(backbone)
    owner.requires_grad_(False)
    numbers = head.modulation.clone()
    random_state, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    probe = Batch.stack(_records(head, styles, validation, random_state, count=4, size_px=record_px))
    draws = objective.draw(torch.Generator().manual_seed(seed + 1), size_px=record_px)
    if level == "nothing":
        loss = _loss(owner, probe, draws, numbers)
        return Tuned(dataclasses.replace(head, backbone=backbone_id(owner)), owner, 0, loss, loss)
    weights: list[torch.nn.Parameter] = []
    if level == "low-rank":
        weights = add_adapters(owner, rank=rank, seed=seed)
    elif level == "everything":
        owner.generator.requires_grad_(True)
        weights = list(owner.generator.parameters())
    numbers.requires_grad_(True)
    groups = [{"params": [numbers], "lr": _RATES["modulation"]}]
    if weights:
        groups.append({"params": weights, "lr": _RATES[level]})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    pool = Pool(TrainConfig().pool)
    pool.add(_records(head, styles, photos, random_state, count=max(8, steps // 4), size_px=record_px))
    tuned = [numbers, *weights]
    best, before = [t.detach().clone() for t in tuned], _loss(owner, probe, draws, numbers.detach())
    after = before
    for step in range(1, steps + 1):
        batch = pool.sample(_BATCH, restyles=_BATCH // 2, size_px=crop_px, random_state=random_state)
        drawn = objective.draw(generator, size_px=crop_px)
        terms, _ = objective.generator_terms(owner, batch, drawn, loss=LossConfig(), modulation=numbers[None])
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum(0).mean().backward()
        torch.nn.utils.clip_grad_norm_(tuned, 3.0)
        for group in optimizer.param_groups:
            group["lr"] *= (1 - step / (steps + 1)) / (1 - (step - 1) / (steps + 1))  # falls to zero
        optimizer.step()
        if step % max(1, steps // 6) == 0:
            value = _loss(owner, probe, draws, numbers.detach())
            if value < after:
                best, after = [t.detach().clone() for t in tuned], value
    with torch.no_grad():
        for tensor, value_at_best in zip(tuned, best, strict=True):
            tensor.copy_(value_at_best)
    merge_adapters(owner)
    owner.requires_grad_(False)
    settled = dataclasses.replace(head, backbone=backbone_id(owner), modulation=numbers.detach())
    return Tuned(settled, owner.eval(), sum(t.numel() for t in tuned), before, after)


@torch.no_grad()
def _loss(backbone: Backbone, probe: Batch, draws: objective.Draws, numbers: Tensor) -> float:
    # Without the adversarial term: a discriminator of the shared backbone is no measure across levels.
    plain = LossConfig(adversarial="none")
    terms, _ = objective.generator_terms(backbone, probe, draws, loss=plain, modulation=numbers[None])
    return float(torch.stack(list(terms.values())).sum(0).mean())


def _records(
    head: Head,
    styles: Sequence[Tensor],
    photos: Sequence[Tensor],
    random_state: random.Random,
    *,
    count: int,
    size_px: int,
) -> list[Batch]:
    """Make ``count`` records, photo and restyle records in turn, styles and photos in turn."""
    canvas = head.config.canvas_px
    sized = [at_least(resize_short(style, canvas), 2 * size_px) for style in styles]
    target, rest = halves(sized[0])
    blind = Head.fit([rest], config=dataclasses.replace(head.config, canvas_px=min(rest.shape[-2:])), seed=1)
    made = []
    for index in range(count):
        if index % 2:
            made.append(restyle_record(target, rest, blind, size_px=size_px, random_state=random_state))
            continue
        photo = resize_short(photos[index // 2 % len(photos)], canvas)
        style = sized[index // 2 % len(sized)]
        made.append(photo_record(photo, style, head, size_px=size_px, random_state=random_state))
    return made
