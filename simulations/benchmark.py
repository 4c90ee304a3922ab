"""Speed, measured side by side in one run: easel against the network of Johnson et al. 2016.

CPU seconds of one thread, the median of a few runs; absolute figures say little on a shared machine,
ratios between rows of one run do. Memory is what the resident set of a fresh process grows by.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from client.local_settings import LocalSettings
from client.private_training import train_example_level, train_user_level
from shared_model.backbone import Backbone
from shared_model.head import Head
from shared_model.images import resize_short, to_tensor
from shared_model.records import Batch, make_records
from shared_model.stylize import Options, stylize
from simulations.pictures import default_photos

__all__ = ["Row", "TransformNet", "bench_memory", "bench_stylize", "bench_training", "peak_mib"]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Parameters
    ----------
    what
        What was timed.
    ours, theirs
        CPU seconds; MiB where ``what`` says so.
    """

    what: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / max(self.theirs, 1e-9)


class TransformNet(nn.Sequential):
    """The image transformation network of Johnson et al. 2016 (supplement, Table 1), random weights."""

    def __init__(self) -> None:
        super().__init__(
            *_layer(3, 32, 9),
            *_layer(32, 64, 3, stride=2),
            *_layer(64, 128, 3, stride=2),
            *(_Residual(128) for _ in range(5)),
            nn.Upsample(scale_factor=2),
            *_layer(128, 64, 3),
            nn.Upsample(scale_factor=2),
            *_layer(64, 32, 3),
            nn.Conv2d(32, 3, 9, padding=4, padding_mode="reflect"),
        )


def _layer(inputs: int, outputs: int, side: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, padding_mode="reflect")
    return convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_layer(width, width, 3), *_layer(width, width, 3)[:2])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.inner(x)
        return result


def _median(work: Callable[[], object], *, runs: int) -> float:
    work()  # warm-up
    spent = []
    for _ in range(runs):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def bench_stylize(backbone: Backbone, *, sizes: Sequence[int], runs: int = 3) -> list[Row]:
    """Time stylising a square photo at each size against :class:`TransformNet` at the same size."""
    photos = default_photos()
    head = Head.fit([to_tensor(photos["coffee"])], backbone=backbone)
    net = TransformNet().eval()
    rows = []
    for size in sizes:
        photo = resize_short(to_tensor(photos["astronaut"]), size)
        with torch.inference_mode():
            ours = _median(lambda p=photo: stylize(p, head=head, backbone=backbone, options=Options()), runs=runs)  # type: ignore[misc]
            theirs = _median(lambda p=photo: net(p), runs=runs)  # type: ignore[misc]
        rows.append(Row(f"stylize {size} px", ours, theirs))
    return rows


def bench_training(*, batch: int = 4, steps: int = 2, runs: int = 3) -> Row:
    """Time private steps (example level) against plain local steps on the same records and network."""
    photos = default_photos()
    records = make_records([to_tensor(photos["astronaut"])], [to_tensor(photos["coffee"])], count=batch, size_px=128)
    settings = LocalSettings(steps=steps, batch=batch, noise_multiplier=1.0, sample_rate=1.0)
    backbone = Backbone()
    private = _median(lambda: train_example_level(backbone, records, settings=settings), runs=runs)
    plain = _median(lambda: train_user_level(backbone, records, settings=settings), runs=runs)
    return Row(f"private training step, batch {batch}", private, plain)


def bench_memory(*, batch: int = 4) -> Row:
    """Weigh private steps (example level) against plain local steps, each in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        private, plain = (pool.apply(_growth, (kind, batch)) for kind in (True, False))
    return Row(f"memory of private training, batch {batch}, MiB", private, plain)


def _growth(private: bool, batch: int) -> float:
    """Return by how many MiB training on random records raises this process's peak memory."""
    torch.set_num_threads(1)
    photo, colored, draft, reference, real = (torch.rand(batch, 3, 128, 128) for _ in range(5))
    records = Batch(photo, colored, draft, reference, real, torch.zeros(batch))
    settings = LocalSettings(steps=2, batch=batch, noise_multiplier=1.0, sample_rate=1.0)
    backbone = Backbone()
    before = peak_mib()
    (train_example_level if private else train_user_level)(backbone, records, settings=settings)
    return peak_mib() - before


def peak_mib() -> float:
    """Return the peak resident memory; Linux also counts the parent's in ``ru_maxrss``, not in VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
