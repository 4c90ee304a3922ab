"""Are several devices' steps faster as one batched computation? ``python -m simulations.bench_engines.vectorized``.

Each device has weights of its own, as after its first local step: ``torch.func`` stacks them and maps one
step over the stack. Measured on the generator, the most of what a device computes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from shared_model.backbone import Backbone
from shared_model.generator import modulation_size

__all__ = ["compare"]


def compare(devices: int, *, batch: int = 2, px: int = 64, rounds: int = 3) -> tuple[float, float]:
    """Time a gradient of the generator for each device, one by one and batched.

    Returns
    -------
    one_by_one, batched
        Processor milliseconds a device, the best of ``rounds``.
    """
    backbone = Backbone()
    net = backbone.generator
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    stacked = {name: torch.stack([value] * devices) for name, value in weights.items()}
    colored, draft = (torch.rand(devices, batch, 3, px, px) for _ in range(2))
    modulation = torch.randn(devices, batch, modulation_size(backbone.config))
    noise = torch.randn(devices, batch, 1, px, px)

    def loss(parameters: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        painted: Tensor = functional_call(net, parameters, inputs)
        return painted.square().mean()

    slope = grad(loss)

    def one_by_one() -> None:
        for at in range(devices):
            slope(weights, colored[at], draft[at], modulation[at], noise[at])

    def batched() -> None:
        vmap(slope)(stacked, colored, draft, modulation, noise)

    return tuple(_best(work, rounds) / devices for work in (one_by_one, batched))  # type: ignore[return-value]


def _best(work: Callable[[], None], rounds: int) -> float:
    work()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found) * 1000


def main() -> None:
    """Print a line for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 4, 8])
    torch.set_num_threads(1)
    for devices in parser.parse_args().devices:
        alone, together = compare(devices)
        line = f"{devices} devices: one by one {alone:.1f} ms each, batched {together:.1f} ms each"
        sys.stdout.write(f"{line}: {together / alone:.2f} times\n")


if __name__ == "__main__":
    main()
