"""Does an exported file paint what PyTorch paints? Compared and timed on a photo, with onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.export.draws import Draws
from shared_model.backbone import Backbone
from shared_model.errors import MissingError
from shared_model.head import Head
from shared_model.stylize import Options, stylize

__all__ = ["MEAN_TOLERANCE", "SHARE_TOLERANCE", "Comparison", "Runner", "compare", "reference"]

MEAN_TOLERANCE = 0.5 / 255  # mean absolute difference
SHARE_TOLERANCE = 0.01  # of all values, those more than two gray levels apart
_TOUCH = 1e-7  # noise on a photo, about the last bit of its numbers: whatever moves by that is moved by rounding


@dataclass(frozen=True)
class Comparison:
    """How far an exported file is from PyTorch.

    Parameters
    ----------
    mean
        Mean absolute difference, values in [0, 1].
    share
        Share of values that differ by more than two gray levels, 0 to 1: where a patch was a tie.
    seconds, reference_seconds
        Of one painting, by the file and by PyTorch eager in the same process, the best of the runs.
    own_mean, own_share
        How far PyTorch is from itself when the last bit of the photo changes; 0 where that was not looked at. Large
        in even areas, where many patches are almost equally near.
    """

    mean: float
    share: float
    seconds: float
    reference_seconds: float
    own_mean: float = 0.0
    own_share: float = 0.0

    @property
    def close(self) -> bool:
        """Within the stated tolerance."""
        return self.mean <= MEAN_TOLERANCE and self.share <= SHARE_TOLERANCE

    @property
    def unsteady(self) -> bool:
        """Whether PyTorch is further from itself on this photo than the tolerance allows a file to be."""
        return self.own_mean > MEAN_TOLERANCE or self.own_share > SHARE_TOLERANCE


class Runner:
    """An exported file, ready to paint on the CPU.

    Parameters
    ----------
    data
        The bytes of the file.
    threads
        At most this many; default: as many as PyTorch uses.

    Raises
    ------
    MissingError
        If onnxruntime is not installed.
    """

    def __init__(self, data: bytes, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingError("onnxruntime is not installed", hint="pip install 'easel[export]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def paint(self, photo: Tensor, *, seed: int = 0, strength: float = 1.0) -> Tensor:
        """Paint ``(1, 3, H, W) float in [0, 1]``; same shape and range."""
        feeds = {"photo": photo.numpy(), "seed": np.array(seed), "strength": np.array(strength, np.float32)}
        painting: NDArray[np.float32] = self._session.run(["painting"], feeds)[0]
        return torch.from_numpy(painting)


def reference(photo: Tensor, *, head: Head, backbone: Backbone, options: Options) -> Tensor:
    """Paint with :func:`shared_model.stylize.stylize` itself, and the random numbers of exported graphs."""
    with Draws(torch.tensor(options.seed)):
        return stylize(photo, head=head, backbone=backbone, options=options)


def compare(
    data: bytes, photo: Tensor, *, head: Head, backbone: Backbone, options: Options, runs: int = 1
) -> Comparison:
    """Paint a photo ``(1, 3, H, W) float in [0, 1]`` with the file and with PyTorch, ``runs`` times each.

    Where they are further apart than the tolerance, PyTorch paints the photo once more with its last bit changed.
    """
    runner = Runner(data)
    wanted, there = _timed(lambda: reference(photo, head=head, backbone=backbone, options=options), runs)
    got, here = _timed(lambda: runner.paint(photo, seed=options.seed, strength=options.strength), runs)
    found = Comparison(*_apart(got, wanted), here, there)
    if found.close:
        return found
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(1))
    touched = reference((photo + _TOUCH * noise).clamp(0, 1), head=head, backbone=backbone, options=options)
    return replace(found, **dict(zip(("own_mean", "own_share"), _apart(touched, wanted), strict=True)))


def _apart(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the mean absolute difference, and the share of values more than two gray levels apart."""
    apart = (one - other).abs()
    return float(apart.mean()), float((apart > 2 / 255).float().mean())


def _timed(paint: Callable[[], Tensor], runs: int) -> tuple[Tensor, float]:
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        painting = paint()
        best = min(best, time.perf_counter() - start)
    return painting, best
