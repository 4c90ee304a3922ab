"""Training on a device's own records: the plain way (user level) and the private way (example level).

*User level*: ordinary alternating steps; nothing here is private by itself. The caller clips the
whole difference (:func:`shared_model.privacy.clip`) and the server adds the noise.

*Example level*: DP-SGD (Abadi et al. 2016) with generator, style encoder and discriminator as ONE
mechanism per step: each record's gradients with respect to all of them form one vector, clipped
once, summed, noised once. Splitting it in two would cost up to twice the loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from client.joint_step import JointStep, parts
from client.local_settings import LocalSettings
from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.errors import PrivacyError
from shared_model.mechanism import Mechanism
from shared_model.noise import secure_bernoulli
from shared_model.records import Batch
from shared_model.split import flatten

__all__ = ["AfterStep", "JointStep", "LocalSettings", "poisson_sample", "train_example_level", "train_user_level"]

#: Called after an optimizer step with the parameters that it moved, by name, and the step size; may move them on.
AfterStep = Callable[[Mapping[str, nn.Parameter], float], None]

_PENALTY_EVERY = 4  # lazy regularization, as in shared_model.training
_GRADIENT_NORM = 3.0


def train_user_level(
    backbone: Backbone,
    records: Batch,
    *,
    settings: LocalSettings,
    seed: int = 0,
    only: Collection[str] | None = None,
    after_step: AfterStep | None = None,
) -> Tensor:
    """Train a copy of the backbone on the records, discriminator and generator in turn.

    Parameters
    ----------
    backbone
        Where to start; left as it is.
    records
        The device's fixed records.
    settings
        The round's public settings.
    seed
        Seed of minibatches and projections: the same seed gives the same update.
    only
        Names of the parameters to train; ``None``: all. The others stay as they are, to the bit.
    after_step
        What a method of federated learning does after each step (:data:`AfterStep`), such as drawing
        the parameters back to where they came from.

    Returns
    -------
    Tensor
        New minus old parameters, (P,) float32 on the CPU, in the order of
        :mod:`shared_model.split`; NOT yet clipped.

    Raises
    ------
    PrivacyError
        If training diverged or there are no records.
    """
    _require_records(records)
    work, generator = copy.deepcopy(backbone).train(), torch.Generator().manual_seed(seed)
    device = next(work.parameters()).device
    painters, critics = (_named(work, part, only) for part in parts(work))
    painter = _Steps(painters, settings=settings, rate=settings.lr, after_step=after_step)
    critic = _Steps(critics, settings=settings, rate=settings.critic_lr, after_step=after_step)
    for step in range(settings.steps):
        chosen = torch.randperm(len(records), generator=generator)[: settings.batch]
        batch = records.select(chosen).to(device)
        draws = objective.draw(generator, size_px=records.size_px).to(device)
        losses, output = objective.generator_loss(work, batch, draws, loss=settings.loss)
        painter.descend(losses)
        losses = objective.discriminator_loss(
            work, batch, output.detach(), draws, loss=settings.loss, penalty=_has_penalty(step, settings)
        )
        if losses.requires_grad:
            critic.descend(losses)
    return _difference(work, backbone)


def train_example_level(
    backbone: Backbone,
    records: Batch,
    *,
    settings: LocalSettings,
    seed: int = 0,
    sampling_seed: int | None = None,
) -> tuple[Tensor, Mechanism, int]:
    """Train a copy of the backbone by joint DP-SGD steps on fixed records.

    Guarantees
    ----------
    The returned vector is the output of ``steps`` Poisson-subsampled Gaussian mechanisms, each of
    sensitivity ``bound`` when one record is added or removed; (mechanism, steps) is what the PRV
    accountant behind the optimizer counted, and is checked against ``settings``. It protects one
    *record*, not a person.

    Assumes
    -------
    Records were made once and are not derived from each other; ``settings`` are public;
    ``sampling_seed``, where given, is known to this device alone (amplification by sampling needs
    secret choices).

    Edge cases
    ----------
    An empty sample makes a noise-only step, which is accounted; a record whose gradient is not
    finite contributes zero; noise multiplier 0 is allowed and costs an infinite epsilon.

    Parameters
    ----------
    backbone, records, settings
        As for :func:`train_user_level`.
    seed
        Seed of projections and painting noise, which do not depend on data; may be public.
    sampling_seed
        Seed of the Poisson sampling; None takes it from the operating system.

    Returns
    -------
    delta
        New minus old parameters, (P,) float32 on the CPU. Already private: needs no clip or noise.
    mechanism, steps
        What it cost.

    Raises
    ------
    PrivacyError
        If there are no records, or steps were counted wrongly.
    """
    _require_records(records)
    work, generator = copy.deepcopy(backbone).train(), torch.Generator().manual_seed(seed)
    sampler = None if sampling_seed is None else torch.Generator().manual_seed(sampling_seed)
    painters, critics = parts(work)
    groups = [{"params": painters, "lr": settings.lr}, {"params": critics, "lr": settings.critic_lr}]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, weight_decay=settings.weight_decay)
    joint = JointStep(work, optimizer, settings=settings)
    for step in range(settings.steps):
        chosen = poisson_sample(len(records), rate=settings.sample_rate, generator=sampler)
        draws = objective.draw(generator, size_px=records.size_px)
        joint(records.select(chosen), draws, penalty=_has_penalty(step, settings))
    if joint.accounted() != [(settings.mechanism, settings.steps)]:
        raise PrivacyError(f"{settings.steps} private steps were counted as {joint.accounted()}")
    return _difference(work, backbone), settings.mechanism, settings.steps


def poisson_sample(count: int, *, rate: float, generator: torch.Generator | None) -> Tensor:
    """Choose each of ``count`` records independently with probability ``rate``; indices, (n,) int64.

    Randomness comes from ``generator``, or from the operating system where it is None.
    """
    if generator is None:
        return torch.from_numpy(secure_bernoulli(count, rate=rate)).nonzero().flatten()
    return (torch.rand(count, generator=generator, dtype=torch.float64) < rate).nonzero().flatten()


class _Steps:
    """Plain steps of one part of the backbone, painters or critics; none if nothing of it is trained."""

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        *,
        settings: LocalSettings,
        rate: float,
        after_step: AfterStep | None,
    ) -> None:
        self._named, self._rate, self._after_step = named, rate, after_step
        self._parameters = list(named.values())
        self._optimizer = _solver(self._parameters, settings, rate=rate) if named else None

    def descend(self, losses: Tensor) -> None:
        """Take one plain step on the mean loss."""
        if self._optimizer is None:
            return
        gradients = torch.autograd.grad(losses.mean(), self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(self._parameters, _GRADIENT_NORM)
        self._optimizer.step()
        if self._after_step is not None:
            with torch.no_grad():
                self._after_step(self._named, self._rate)


def _named(work: Backbone, part: list[nn.Parameter], only: Collection[str] | None) -> dict[str, nn.Parameter]:
    """Return a part's parameters by name, in its order; only those that are trained."""
    names = {id(parameter): name for name, parameter in work.named_parameters()}
    return {names[id(p)]: p for p in part if only is None or names[id(p)] in only}


def _solver(parameters: list[nn.Parameter], settings: LocalSettings, *, rate: float) -> torch.optim.Optimizer:
    if settings.solver == "sgd":
        return torch.optim.SGD(parameters, rate, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(parameters, rate, betas=settings.betas, weight_decay=settings.weight_decay)


def _has_penalty(step: int, settings: LocalSettings) -> bool:
    """Say whether this step includes the discriminator's gradient penalty: a public schedule."""
    return settings.loss.adversarial == "wasserstein-gp" or step % _PENALTY_EVERY == 0


def _difference(new: Backbone, old: Backbone) -> Tensor:
    """Return new minus old as one vector, refusing a diverged run."""
    delta = flatten(new) - flatten(old)
    if not bool(torch.isfinite(delta).all()):
        raise PrivacyError("local training diverged; nothing is sent", hint="use a lower learning rate in this run")
    return delta


def _require_records(records: Batch) -> None:
    if len(records) == 0:
        raise PrivacyError("there are no training records", hint="check the device's photo and art folders")
