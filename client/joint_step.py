"""The private step: per-record gradients of the whole backbone, one clip, one noise, one account."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from client.local_settings import LocalSettings
from shared_model import objective, privacy
from shared_model.backbone import Backbone
from shared_model.config import LossConfig
from shared_model.mechanism import Mechanism
from shared_model.records import Batch

__all__ = ["JointStep", "parts"]


class JointStep:
    """One private step over generator, style encoder and discriminator together.

    Guarantees
    ----------
    Every record of a batch enters the sum as one vector of norm at most ``settings.bound`` (up to
    float32 rounding, relative 1e-6), whatever it contains, and whichever other records are there.

    Parameters
    ----------
    backbone
        Trained in place.
    optimizer
        Over all parameters of ``backbone``.
    settings
        Bound, noise, balance, chunk and losses.
    """

    def __init__(self, backbone: Backbone, optimizer: torch.optim.Optimizer, *, settings: LocalSettings) -> None:
        self._losses = _RecordLosses(backbone, settings.loss)
        self._settings = settings
        self._painters, self._critics = parts(backbone)
        self._device = self._painters[0].device
        self._optimizer = privacy.private_optimizer(
            optimizer, mechanism=settings.mechanism, bound=settings.bound, expected_batch=settings.batch
        )

    def __call__(self, batch: Batch, draws: objective.Draws, *, penalty: bool = False) -> None:
        """Clip and sum the gradients of ``batch`` (which may be empty), add noise, and step."""
        draws, chunk = draws.to(self._device), self._settings.chunk
        for start in range(0, max(1, len(batch)), chunk):
            rows = self.record_gradients(
                batch.select(range(start, min(start + chunk, len(batch)))), draws, penalty=penalty
            )
            for parameter, row in zip((*self._painters, *self._critics), rows, strict=True):
                parameter.grad_sample = row.cpu()  # type: ignore[attr-defined]
            self._optimizer.signal_skip_step(start + chunk < len(batch))
            self._optimizer.step()
            self._optimizer.zero_grad()

    def record_gradients(self, batch: Batch, draws: objective.Draws, *, penalty: bool = False) -> list[Tensor]:
        """Return each record's own gradient, before the clip.

        Returns
        -------
        list of Tensor
            (N, *shape) for each parameter of generator, style encoder and discriminator, in this
            order; the first two multiplied by ``balance``; a row with a non-finite number is zero.
        """
        batch = batch.to(self._device)
        if len(batch) == 0:
            return [torch.zeros(0, *p.shape, device=self._device) for p in (*self._painters, *self._critics)]
        if len(batch) == 1:
            painters, critics = self._one(batch, draws, penalty)
        else:
            painters, critics = self._many(batch, draws, penalty)
        rows = [*(row * self._settings.balance for row in painters), *critics]
        finite = torch.stack([torch.isfinite(row.flatten(1).sum(1)) for row in rows]).all(0)
        if bool(finite.all()):
            return rows
        return [torch.where(finite.view(-1, *(1,) * (row.dim() - 1)), row, 0.0) for row in rows]

    def accounted(self) -> list[tuple[Mechanism, int]]:
        """Return what has been released so far, as the accountant counted it."""
        return privacy.accounted(self._optimizer)

    def _one(self, batch: Batch, draws: objective.Draws, penalty: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Differentiate a batch of one with plain autograd."""
        loss, output = self._losses.painter_loss(batch, draws)
        painters = _gradients(loss.sum(), self._painters)
        loss = self._losses.critic_loss(batch, output.detach(), draws, penalty)
        return painters, _gradients(loss.sum(), self._critics)

    def _many(self, batch: Batch, draws: objective.Draws, penalty: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Differentiate several records at once with vmap."""
        names = {id(parameter): name for name, parameter in self._losses.named_parameters()}
        painters = {names[id(p)]: p.detach() for p in self._painters}
        critics = {names[id(p)]: p.detach() for p in self._critics}

        def per_record(*tensors: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            one = Batch(*(tensor.unsqueeze(0) for tensor in tensors))

            def painter_loss(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
                call = ("painter", one, draws)
                loss, output = torch.func.functional_call(self._losses, {**critics, **weights}, call)
                return loss.sum(), output

            def critic_loss(weights: dict[str, Tensor]) -> Tensor:
                call = ("critic", one, draws, output, penalty)
                loss: Tensor = torch.func.functional_call(self._losses, {**painters, **weights}, call)[0]
                return loss.sum()

            first, output = torch.func.grad(painter_loss, has_aux=True)(painters)
            return first, torch.func.grad(critic_loss)(critics)

        first, second = torch.func.vmap(per_record)(*batch.tensors())
        return list(first.values()), list(second.values())


class _RecordLosses(nn.Module):
    """Both losses as one module, so that vmap can call it with other weights."""

    def __init__(self, backbone: Backbone, loss: LossConfig) -> None:
        super().__init__()
        self.backbone, self.loss = backbone, loss

    def painter_loss(self, batch: Batch, draws: objective.Draws) -> tuple[Tensor, Tensor]:
        return objective.generator_loss(self.backbone, batch, draws, loss=self.loss)

    def critic_loss(self, batch: Batch, output: Tensor, draws: objective.Draws, penalty: bool) -> Tensor:
        return objective.discriminator_loss(self.backbone, batch, output, draws, loss=self.loss, penalty=penalty)

    def forward(
        self, which: str, batch: Batch, draws: objective.Draws, output: Tensor | None = None, penalty: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return (losses (N,), outputs (N, 3, S, S)) of the painter or, given outputs, of the critic."""
        if which == "painter" or output is None:
            return self.painter_loss(batch, draws)
        return self.critic_loss(batch, output, draws, penalty), output


def parts(backbone: Backbone) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of (generator and style encoder, discriminator)."""
    painters = [*backbone.generator.parameters(), *backbone.style_encoder.parameters()]
    return painters, list(backbone.discriminator.parameters())


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Differentiate one record's loss; shape (1, *shape) each, zero where it does not depend."""
    if not loss.requires_grad:
        return [torch.zeros(1, *p.shape, device=p.device) for p in parameters]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [gradient.detach().unsqueeze(0) for gradient in found]
