"""Transfer learning on the device: tune the generator to one owner, freeze all else.

Training goes on as it did on the shared backbone, generator and discriminator in turn, on the owner's pictures only.
The style encoder and the head's modulation numbers stay; the discriminator learns to know this owner's pictures and is
thrown away. What the generator has learned becomes part of the private head (:mod:`shared_model.own_hand`).

Two references decide what "closer to the owner" means, neither needs a label: photos that must keep
their structure and gain the pictures' statistics, and pieces of the owner's own pictures that were
destylised and must come back.
"""

from __future__ import annotations

import copy
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
from shared_model.own_hand import difference, with_change
from shared_model.pool import DETAILS, Pool, halves, varied
from shared_model.records import Batch, at_least, photo_records, restyle_record
from shared_model.samples import sample_photos
from shared_model.split import flatten, unflatten

__all__ = ["tune"]

_RECORD_PX, _CROP_PX = 192, 96
_BATCH, _RESTYLES = 4, 1  # records in a step, and how many of them are restyle records
_DRAFTS, _CROPS = 16, 4  # practice photos that are drafted, at most, each in another brush, and records cut from each
_PRACTICE = 0.15  # share of the budget in which practice records are made
_PROBES = 8  # probe evaluations spread over the budget
_RATE, _CRITIC_RATE = 1e-3, 2e-3
_WARM_UP = 10  # steps over which the step size rises; it falls over the second half of the budget
_AVERAGE = 0.98  # decay of the averaged weights that are kept
_PENALTY_EVERY = 4  # as in shared_model.training
_GRADIENT_NORM = 3.0
_LOSS = LossConfig(adversarial="bce", adversarial_weight=1.0)  # that of weights/train.toml
_JUDGED = replace(_LOSS, adversarial="none")  # a discriminator that learns is no measure


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
    """Tune a hand of the owner's own within a time budget.

    Parameters
    ----------
    head
        A head fitted on ``styles`` for ``backbone``; a hand of its own that it has already is trained on.
    styles
        The owner's pictures, ``(1, 3, H, W) float in [0, 1]`` each.
    backbone
        Left as it is.
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
        The head with the hand it has learned, or as it came if that does better on the probe records.

    Raises
    ------
    InputError
        If there is no picture.
    """
    if not styles:
        raise InputError("tuning needs at least one picture")
    began = clock()
    random_state = random.Random(seed)
    pool, probe = _practice(head, styles, photos or sample_photos(), random_state, clock, began + _PRACTICE * budget_s)
    apprentice = _Apprentice(backbone, head, seed=seed)
    start = loss = apprentice.judge(probe)
    if progress is not None:
        progress(0.0, start)
    next_probe = 1
    while (used := (clock() - began) / max(budget_s, 1e-9)) < 1:
        apprentice.step(pool.sample(_BATCH, restyles=_RESTYLES, size_px=_CROP_PX, random_state=random_state), done=used)
        if used * _PROBES >= next_probe:
            next_probe = int(used * _PROBES) + 1
            if progress is not None:
                progress(used, apprentice.judge(probe))
    if apprentice.steps:
        loss = apprentice.judge(probe)
    if progress is not None:
        progress(1.0, min(loss, start))
    # The last weights, not the best of all probes: a few records judge too roughly for that (docs/model.md).
    return replace(head, change=apprentice.learned()) if loss < start else head


class _Apprentice:
    """A copy of the backbone whose generator and discriminator train on one owner's pictures."""

    def __init__(self, backbone: Backbone, head: Head, *, seed: int) -> None:
        self.shared, self.numbers = backbone, head.modulation[None]
        self.own = Backbone(backbone.config)
        unflatten(self.own, flatten(backbone))
        self.own.generator = with_change(self.own.generator, head.change)
        self.own.style_encoder.requires_grad_(False)
        self.averaged = copy.deepcopy(self.own.generator).requires_grad_(False)
        self.generator = torch.Generator().manual_seed(seed)
        self.probe_draws = objective.draw(torch.Generator().manual_seed(seed), size_px=_RECORD_PX)
        self.painter = torch.optim.AdamW(self.own.generator.parameters(), _RATE, betas=(0.5, 0.99), weight_decay=0.0)
        critic = self.own.discriminator.parameters()
        self.critic = torch.optim.AdamW(critic, _CRITIC_RATE, betas=(0.5, 0.99), weight_decay=0.0)
        self.steps = 0

    def step(self, batch: Batch, *, done: float) -> None:
        """Take one generator step and one discriminator step; ``done`` is the share of the time that is over."""
        factor = min(1.0, (self.steps + 1) / _WARM_UP) * min(1.0, max(0.02, 2 * (1 - done)))
        for optimizer, rate in ((self.painter, _RATE), (self.critic, _CRITIC_RATE)):
            optimizer.param_groups[0]["lr"] = rate * factor
        draws = objective.draw(self.generator, size_px=batch.size_px)
        terms, output = objective.generator_terms(self.own, batch, draws, loss=_LOSS, modulation=self.numbers)
        self.painter.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum(0).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.own.generator.parameters(), _GRADIENT_NORM)
        self.painter.step()
        penalty = self.steps % _PENALTY_EVERY == 0
        self.critic.zero_grad(set_to_none=True)
        objective.discriminator_loss(
            self.own, batch, output.detach(), draws, loss=_LOSS, penalty=penalty
        ).mean().backward()
        self.critic.step()
        self.steps += 1
        decay = min(_AVERAGE, self.steps / (10 + self.steps))
        with torch.no_grad():
            for mean, weight in zip(self.averaged.parameters(), self.own.generator.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)

    @torch.no_grad()
    def judge(self, probe: Batch) -> float:
        """Return the loss of the averaged weights on fixed records, without the adversarial term."""
        practised, self.own.generator = self.own.generator, self.averaged
        terms, _ = objective.generator_terms(self.own, probe, self.probe_draws, loss=_JUDGED, modulation=self.numbers)
        self.own.generator = practised
        return float(torch.stack(list(terms.values())).sum(0).mean())

    def learned(self) -> Tensor:
        """Return how the averaged generator differs from the shared one."""
        return difference(self.averaged, self.shared.generator)


def _practice(
    head: Head,
    styles: Sequence[Tensor],
    photos: Sequence[Tensor],
    random_state: random.Random,
    clock: Callable[[], float],
    until: float,
) -> tuple[Pool, Batch]:
    """Draft practice records until time is up (at least one of each kind), and set six aside as probes."""
    pool = Pool(TrainConfig().pool)
    canvas = head.config.canvas_px
    sized = [at_least(resize_short(style, canvas), 2 * _RECORD_PX) for style in styles]
    # A piece must come back from a dictionary that never saw it, or the tuning would learn to copy.
    target, rest = halves(sized[0])
    blind = Head.fit(
        [rest], config=replace(head.config, canvas_px=min(rest.shape[-2:])), seed=random_state.randrange(1 << 16)
    )
    probes: list[Batch] = []
    for index in range(_DRAFTS):
        style = sized[index % len(sized)]
        photo = resize_short(photos[index % len(photos)], canvas)
        brush = replace(head, config=varied(head.config, random_state)) if index >= 2 else head
        records = photo_records(
            photo,
            style,
            brush,
            count=_CROPS,
            size_px=_RECORD_PX,
            random_state=random_state,
            detail=random_state.choice(DETAILS) if index >= 2 else 0.5,
        )
        records += [
            restyle_record(target, rest, blind, size_px=_RECORD_PX, random_state=random_state)
            for _ in range(_CROPS // 2)
        ]
        if index < 2:
            probes += records[_CROPS - 2 : _CROPS + 1]
        if index != 1:
            pool.add(records)
        if index >= 2 and clock() > until:
            break
    return pool, Batch.stack(probes)
