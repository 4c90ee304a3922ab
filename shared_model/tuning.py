"""Transfer learning on the device: tune a head's few hundred modulation numbers, freeze all else.

Two references decide what "closer to the owner" means, neither needs a label: photos that must keep
their structure and gain the pictures' statistics, and pieces of the owner's own pictures that were
destylised and must come back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, TrainConfig
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import resize_short
from shared_model.pool import Pool, halves
from shared_model.records import Batch, at_least, photo_record, restyle_record
from shared_model.samples import sample_photos

__all__ = ["tune"]

_RECORD_PX, _CROP_PX, _BATCH = 192, 128, 2
_PROBES = 12  # probe evaluations spread over the budget
_RATE = 3e-2


def tune(
    head: Head,
    styles: Sequence[Tensor],
    *,
    backbone: Backbone,
    photos: Sequence[Tensor] | None = None,
    budget_s: float = 20.0,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[float, float], None] | None = None,
) -> Head:
    """Tune the modulation numbers of a head within a time budget.

    Parameters
    ----------
    head
        A head fitted on ``styles`` for ``backbone``.
    styles
        The owner's pictures, ``(1, 3, H, W) float in [0, 1]`` each.
    photos
        Photos to practise on; those that easel brings along by default.
    budget_s
        Seconds to spend, drafting included.
    clock
        Seconds; the loop ends when it passes the budget.
    progress
        Called with the fraction of the budget used and the loss on fixed probe records.

    Returns
    -------
    Head
        The head with the modulation numbers that did best on the probe records, never worse than
        those it came with.

    Raises
    ------
    InputError
        If there is no picture.
    """
    if not styles:
        raise InputError("tuning needs at least one picture")
    began = clock()
    random_state = random.Random(seed)
    pool, probe = _practice(head, styles, photos or sample_photos(), random_state, clock, began + 0.3 * budget_s)
    generator = torch.Generator().manual_seed(seed)
    probe_draws = objective.draw(generator, size_px=probe.size_px)
    loss = LossConfig()

    def judge(numbers: Tensor) -> float:
        with torch.no_grad():
            terms, _ = objective.generator_terms(backbone, probe, probe_draws, loss=loss, modulation=numbers[None])
        return float(torch.stack(list(terms.values())).sum(0).mean())

    numbers = head.modulation.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([numbers], lr=_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    smoothed = numbers.detach().clone()
    best, best_loss = smoothed.clone(), judge(smoothed)
    if progress is not None:
        progress(0.0, best_loss)
    next_probe = 1
    with _frozen(backbone):
        while (used := (clock() - began) / max(budget_s, 1e-9)) < 1:
            batch = pool.sample(_BATCH, restyles=_BATCH // 2, size_px=_CROP_PX, random_state=random_state)
            draws = objective.draw(generator, size_px=_CROP_PX)
            terms, _ = objective.generator_terms(backbone, batch, draws, loss=loss, modulation=numbers[None])
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum(0).mean().backward()
            optimizer.step()
            smoothed.lerp_(numbers.detach(), 0.15)
            if used * _PROBES >= next_probe:
                next_probe = int(used * _PROBES) + 1
                value = judge(smoothed)
                if value < best_loss:
                    best, best_loss = smoothed.clone(), value
                if progress is not None:
                    progress(used, value)
    if (value := judge(smoothed)) < best_loss:
        best, best_loss = smoothed.clone(), value
    if progress is not None:
        progress(1.0, best_loss)
    return replace(head, modulation=best, untuned=head.modulation if head.untuned is None else head.untuned)


class _frozen:
    """Switch off the gradients of a module's weights for a while."""

    def __init__(self, backbone: Backbone) -> None:
        self.weights = [p for p in backbone.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for weight in self.weights:
            weight.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for weight in self.weights:
            weight.requires_grad_(True)


def _practice(
    head: Head,
    styles: Sequence[Tensor],
    photos: Sequence[Tensor],
    random_state: random.Random,
    clock: Callable[[], float],
    until: float,
) -> tuple[Pool, Batch]:
    """Draft practice records until time is up (at least one of each kind), and set four aside as probes."""
    pool = Pool(TrainConfig().pool)
    canvas = head.config.canvas_px
    sized = [at_least(resize_short(style, canvas), 2 * _RECORD_PX) for style in styles]
    # A piece must come back from a dictionary that never saw it, or the tuning would learn to copy.
    target, rest = halves(sized[0])
    blind = Head.fit(
        [rest], config=replace(head.config, canvas_px=min(rest.shape[-2:])), seed=random_state.randrange(1 << 16)
    )
    probes: list[Batch] = []
    for index in range(64):
        style = sized[index % len(sized)]
        photo = resize_short(photos[index % len(photos)], canvas)
        records = [
            photo_record(photo, style, head, size_px=_RECORD_PX, random_state=random_state),
            restyle_record(target, rest, blind, size_px=_RECORD_PX, random_state=random_state),
        ]
        if index < 2:
            probes += records
        if index != 1:
            pool.add(records)
        if index >= 2 and clock() > until:
            break
    return pool, Batch.stack(probes)
