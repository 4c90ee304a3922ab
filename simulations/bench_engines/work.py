"""What a client does in the benchmark: return a vector, or take one step of SGD on a linear layer."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from shared_model.npy import NpyFrame, npy_bytes, npy_view

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
    """Make the model and data that all clients of a process share: each loads weights of its own."""
    draw = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randn(BATCH, side, generator=draw) for _ in range(2))
    return nn.Linear(side, side, bias=False), inputs, targets


def _step(start: bytes) -> bytes:
    """Load the model, take a step, and return the difference; the weights lie where it is sent from."""
    reply = NpyFrame(start)
    side = math.isqrt(len(reply.values))
    model, inputs, targets = _model(side)
    model.weight.data = torch.from_numpy(reply.values).view(side, side)
    (slope,) = torch.autograd.grad(nn.functional.mse_loss(model(inputs), targets), [model.weight])
    with torch.no_grad():
        model.weight.sub_(slope, alpha=RATE)
    model.weight.data = torch.empty(0)  # nothing looks at the reply any more
    np.subtract(reply.values, npy_view(start), out=reply.values)
    return reply.close()


def app_of(work: str) -> ClientApp:
    """Return the app of all clients."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        record = message.content[ARRAY]  # not through `array_records`, whose loop of references keeps it in memory
        assert isinstance(record, ArrayRecord)
        start = record[ARRAY].data
        data = _step(start) if work == "step" else npy_bytes(npy_view(start))
        array = Array(dtype="float32", shape=npy_view(start).shape, stype="numpy.ndarray", data=data)
        return Message(RecordDict({ARRAY: ArrayRecord({ARRAY: array})}), reply_to=message)

    return made
