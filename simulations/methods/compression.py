"""Top-k sparsification with error feedback, around any local trainer.

Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with memory" (NeurIPS); Lin et al. 2018, "Deep gradient
compression" (ICLR), of which only the memory is taken: no momentum, no warm-up.

What is kept is also all that is sent: the round asks for the same share (``top_k`` of the federation), and
the client app writes it as positions and numbers (:mod:`shared_model.sparse`). Under secure aggregation, which
needs every number of an update, the zeros are masked with the others and no bytes are saved.

Privacy
    The transform comes BEFORE the clip, and its memory never leaves the device. What leaves is one vector
    of an L2 norm of at most the clip, whatever the memory holds, so the sensitivity of the sum and with it
    every guarantee at user level is that of the method without it. What the clip cuts off is not
    remembered. How long a message is follows from the share, not from the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from client.trainer import Trainer
from shared_model.backbone import Backbone
from shared_model.messages import RoundRequest
from shared_model.sparse import largest
from simulations.methods.memory import Memory

__all__ = ["TopK", "only_largest"]


@dataclass(frozen=True)
class TopK:
    """A trainer whose update keeps its largest numbers only; the others wait on the device.

    Parameters
    ----------
    inner
        Trains.
    share
        Of the numbers that are kept, above 0 and at most 1.
    feedback
        Add what was left out to the next update (error feedback); otherwise it is lost.
    """

    inner: Trainer
    share: float
    feedback: bool = True

    def __call__(self, backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        """Train, then keep the largest numbers; see :class:`client.trainer.Trainer`."""
        memory = Memory(folder, "top-k")
        delta = self.inner(backbone, folder, request, seed=seed)
        waiting = memory.recall(request.run, before=request.round) if self.feedback else None
        if waiting is not None:
            delta = delta + waiting["rest"]
        kept = only_largest(delta, share=self.share)
        if self.feedback:
            memory.keep(request.run, request.round, {"rest": delta - kept}, attempt=request.attempt)
        return kept


def only_largest(vector: Tensor, *, share: float) -> Tensor:
    """Return the vector (P,) with all but its ``ceil(share * P)`` largest magnitudes set to zero."""
    chosen = largest(vector, share=share)
    return torch.zeros_like(vector).index_copy_(0, chosen, vector[chosen])
