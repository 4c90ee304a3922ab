"""What a client does in the benchmark: return a vector, or take one step of SGD on a linear layer."""

from __future__ import annotations

import functools
import math

import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from shared_model.npy import npy_bytes, npy_copy

__all__ = ["ARRAY", "BATCH", "RATE", "WORKS", "app_of", "side_of"]

#: What a client does: ``vector``, nothing but to return one; ``step``, one step of SGD.
WORKS = ("vector", "step")
ARRAY = "array"
BATCH, RATE = 8, 0.1


def side_of(parameters: int) -> int:
    """Return the side of a square linear layer with about so many parameters."""
    return round(math.sqrt(parameters))


@functools.lru_cache(maxsize=1)
def _model(side: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """Make the model and data that all clients of a process share: its weights are loaded anew each time."""
    draw = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randn(BATCH, side, generator=draw) for _ in range(2))
    return nn.Linear(side, side, bias=False), inputs, targets


def _step(start: Tensor, side: int) -> Tensor:
    model, inputs, targets = _model(side)
    weight = model.weight
    with torch.no_grad():
        weight.copy_(start.view(side, side))
    (slope,) = torch.autograd.grad(nn.functional.mse_loss(model(inputs), targets), [weight])
    with torch.no_grad():
        weight.sub_(slope, alpha=RATE)
        return (weight - start.view(side, side)).flatten()


def app_of(work: str) -> ClientApp:
    """Return the app of all clients."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        start = torch.from_numpy(npy_copy(message.content.array_records[ARRAY][ARRAY].data))
        delta = (_step(start, math.isqrt(len(start))) if work == "step" else start).numpy()
        array = Array(dtype=str(delta.dtype), shape=delta.shape, stype="numpy.ndarray", data=npy_bytes(delta))
        return Message(RecordDict({ARRAY: ArrayRecord({ARRAY: array})}), reply_to=message)

    return made
