"""A small painter classifier: crop in, painter out; unrelated to the losses and the metric of the model.

Plain convolutions learned from labels. Crops vary in scale, sharpness and mirror; the color judge
sees jittered colors, the gray judge sees luminance with mean and contrast of each crop divided out,
so that no palette and no tone can give a painter away.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared_model.errors import StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["CROP_PX", "Classifier", "PainterNet", "train_classifier"]

CROP_PX = 96
_SCALES = (0.75, 1.35)  # of the crops seen in training
_BATCH, _RATE, _DECAY = 40, 2e-3, 2e-2
_LUMA = (0.299, 0.587, 0.114)


class PainterNet(nn.Module):
    """Five strided convolutions, mean and deviation of the last features, one linear layer."""

    def __init__(self, painters: int, *, channels: int) -> None:
        super().__init__()
        widths = (channels, 24, 48, 72, 96)
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            side = 5 if index == 0 else 3
            layers += [
                nn.Conv2d(inputs, outputs, side, stride=2, padding=side // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.4)
        self.leave = nn.Linear(2 * widths[-1], painters)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, S, S)`` to ``(N, painters)`` logits."""
        h = self.features(x)
        pooled = torch.cat([h.mean((2, 3)), h.flatten(2).std(2)], 1)
        logits: Tensor = self.leave(self.drop(pooled))
        return logits


@dataclass(frozen=True)
class Classifier:
    """A trained judge.

    Parameters
    ----------
    painters
        Names, in the order of the probabilities.
    gray
        Sees luminance only.
    net
        In evaluation mode.
    """

    painters: tuple[str, ...]
    gray: bool
    net: PainterNet

    @torch.inference_mode()
    def probabilities(self, picture: Tensor) -> Tensor:
        """Return ``(crops, painters)``: what every crop of a picture ``(1, 3, H, W) in [0, 1]`` is taken for.

        Crops lie on a grid with half a crop between neighbours, in pixels of the picture as it comes.
        """
        side, step = CROP_PX, CROP_PX // 2
        if min(picture.shape[-2:]) < side:
            picture = F.interpolate(picture, scale_factor=side / min(picture.shape[-2:]), mode="bicubic").clamp(0, 1)
            picture = F.pad(
                picture, (0, max(0, side - picture.shape[3]), 0, max(0, side - picture.shape[2])), "reflect"
            )
        grid = picture[0].unfold(1, side, step).unfold(2, side, step)
        crops = grid.permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)
        return torch.cat([self.net(_seen(part, self.gray)).softmax(1) for part in crops.split(64)])

    def save(self, path: Path) -> None:
        """Write atomically."""
        facts = json.dumps({"painters": self.painters, "gray": self.gray})
        tensors = {key: value.contiguous() for key, value in self.net.state_dict().items()}
        write_atomic(path, safetensors.torch.save(tensors, metadata={"judge": facts}))

    @staticmethod
    def load(path: Path) -> Classifier:
        """Read what :meth:`save` wrote.

        Raises
        ------
        StorageError
            If it is damaged.
        """
        data = read_bytes(path)
        try:
            length = int.from_bytes(data[:8], "little")
            facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["judge"])
            net = PainterNet(len(facts["painters"]), channels=1 if facts["gray"] else 3)
            net.load_state_dict(safetensors.torch.load(data))
        except (ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise StorageError(f"damaged judge {path}", hint="delete it: it is trained anew") from error
        return Classifier(tuple(facts["painters"]), bool(facts["gray"]), net.eval())


def train_classifier(works: Mapping[str, Sequence[Tensor]], *, gray: bool, steps: int, seed: int) -> Classifier:
    """Train a judge from real works.

    Parameters
    ----------
    works
        Painter to pictures ``(1, 3, H, W) float in [0, 1]`` at the scale at which it will judge; every
        painter is shown equally often, every work of a painter, too.
    gray
        Show luminance only.
    steps, seed
        Length of the training; seed of everything random.
    """
    painters = tuple(sorted(works))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PainterNet(len(painters), channels=1 if gray else 3).train()
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps + 1)
        for _ in range(steps):
            labels = torch.randint(0, len(painters), (_BATCH,), generator=generator)
            crops = torch.cat([_crop(works[painters[label]], generator) for label in labels.tolist()])
            seen = _seen(_altered(crops, generator, gray=gray), gray)
            loss = F.cross_entropy(net(seen), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Classifier(painters, gray, net.eval())


def _seen(crops: Tensor, gray: bool) -> Tensor:
    """Return what a judge sees of crops ``(N, 3, S, S)``."""
    if not gray:
        return crops * 4 - 2
    luma = (crops * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (luma - luma.mean((2, 3), keepdim=True)) / (luma.std((2, 3), keepdim=True) + 0.02)


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _crop(works: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """One random crop of one random work, at a random scale, perhaps mirrored."""
    work = works[int(torch.randint(0, len(works), (), generator=generator))]
    scale = float(_uniform(generator, *_SCALES))
    side = min(round(CROP_PX / scale), *work.shape[-2:])
    top = int(torch.randint(0, work.shape[2] - side + 1, (), generator=generator))
    left = int(torch.randint(0, work.shape[3] - side + 1, (), generator=generator))
    crop = F.interpolate(
        work[:, :, top : top + side, left : left + side], size=(CROP_PX, CROP_PX), mode="bilinear", antialias=True
    )
    return crop.flip(3) if float(torch.rand((), generator=generator)) < 0.5 else crop


def _altered(crops: Tensor, generator: torch.Generator, *, gray: bool) -> Tensor:
    """Blur or sharpen a little, add grain; for the color judge, move brightness, contrast, hue and saturation."""
    count = len(crops)
    soft = F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    crops = torch.lerp(soft, crops, _uniform(generator, 0.2, 1.6, count, 1, 1, 1))
    crops = crops + _uniform(generator, 0, 0.04, count, 1, 1, 1) * torch.randn(crops.shape, generator=generator)
    if not gray:
        middle = crops.mean((2, 3), keepdim=True)
        crops = (crops - middle) * _uniform(generator, 0.7, 1.3, count, 1, 1, 1) + middle
        crops = crops * _uniform(generator, 0.8, 1.2, count, 3, 1, 1) + _uniform(generator, -0.12, 0.12, count, 3, 1, 1)
        luma = (crops * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        crops = torch.lerp(luma, crops, _uniform(generator, 0.2, 1.3, count, 1, 1, 1))
    return crops.clamp(0, 1)
