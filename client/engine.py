"""The painter at work: one backbone on the best device of this machine, kept warm over many pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import InputError, MissingError
from shared_model.explain import Explanation, explain
from shared_model.head import Head
from shared_model.stylize import Options, stylize

__all__ = ["DEVICES", "PRECISIONS", "Engine", "Plan", "available_devices", "plan"]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Plan:
    """Where and how to compute.

    Attributes
    ----------
    device
        ``cpu``, ``cuda`` or ``mps``.
    dtype
        What the backbone's convolutions compute in; the head always drafts in float32.
    """

    device: torch.device
    dtype: torch.dtype


def available_devices() -> tuple[str, ...]:
    """Return the devices of this machine, fastest first; the last is always ``cpu``."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def plan(*, device: str = "auto", precision: str = "auto", available: tuple[str, ...] | None = None) -> Plan:
    """Choose device and precision.

    Parameters
    ----------
    device
        One of `DEVICES`; ``auto`` takes the first available one.
    precision
        One of `PRECISIONS`; ``auto`` is float32.
    available
        Devices to choose from; default: those of this machine.

    Raises
    ------
    MissingError
        If the device asked for is not there.
    InputError
        If device or precision is unknown.
    """
    present = available_devices() if available is None else available
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}", hint=f"one of {', '.join(DEVICES)}")
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
    if device != "auto" and device not in present:
        raise MissingError(
            f"there is no {device} device that torch can use here", hint=f"use --device auto or {present[0]}"
        )
    chosen = present[0] if device == "auto" else device
    return Plan(device=torch.device(chosen), dtype=_DTYPES["fp32" if precision == "auto" else precision])


class Engine:
    """A backbone made ready once and used for any number of pictures and heads.

    Parameters
    ----------
    backbone
        Copied; the caller's stays as it is.
    device, precision
        See :func:`plan`.

    Raises
    ------
    MissingError
        If the device asked for is not there.
    """

    def __init__(self, backbone: Backbone, *, device: str = "auto", precision: str = "auto") -> None:
        self.plan = plan(device=device, precision=precision)
        self._backbone = _Hand(backbone.config, dtype=self.plan.dtype)
        self._backbone.load_state_dict(backbone.state_dict())
        self._backbone.to(self.plan.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def stylize(self, photo: Tensor, head: Head, *, options: Options | None = None) -> Tensor:
        """Paint one photo.

        Parameters
        ----------
        photo
            ``(1, 3, H, W) float in [0, 1]``, any size, on any device.
        head
            Whose taste.
        options
            How; default: :class:`shared_model.stylize.Options`.

        Returns
        -------
        Tensor
            ``(1, 3, H', W') float32 in [0, 1]`` on the CPU.

        Raises
        ------
        InputError
            If there is not enough memory for a picture of this size.
        CompatibilityError
            If the head was made for another backbone.
        """
        place = self.plan.device
        with torch.inference_mode(), _memory_errors(place):
            painted = stylize(
                photo.to(place), head=head.to(place), backbone=self._backbone, options=options or Options()
            )
            return painted.float().cpu()

    def explain(self, photo: Tensor, head: Head, *, options: Options | None = None) -> Explanation:
        """Take the painting of one photo apart; see :func:`shared_model.explain.explain` and :meth:`stylize`."""
        place = self.plan.device
        with torch.inference_mode(), _memory_errors(place):
            return explain(photo.to(place), head=head.to(place), backbone=self._backbone, options=options)


class _Hand(Backbone):
    """A backbone that paints in another precision; weights, draft and result stay float32.

    The generator adds a correction to the draft, so only the correction is rounded.
    """

    def __init__(self, config: ModelConfig, *, dtype: torch.dtype) -> None:
        super().__init__(config)
        self.dtype = dtype

    def paint(self, colored: Tensor, draft: Tensor, modulation: Tensor, noise: Tensor) -> Tensor:
        """Like :meth:`shared_model.backbone.Backbone.paint`, with convolutions in ``dtype``."""
        lower = self.dtype != torch.float32
        with torch.autocast(colored.device.type, dtype=self.dtype, enabled=lower):
            return super().paint(colored, draft, modulation, noise)


@contextlib.contextmanager
def _memory_errors(device: torch.device) -> Iterator[None]:
    """Turn every way in which torch says "out of memory" into one line with a hint."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        told = str(error).lower()
        if isinstance(error, RuntimeError) and "out of memory" not in told and "can't allocate memory" not in told:
            raise
        hint = "try a smaller --size" + ("" if device.type == "cpu" else ", or --device cpu")
        raise InputError("not enough memory to paint a picture of this size", hint=hint) from error
