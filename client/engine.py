"""The painter at work: one backbone on the best device of this machine, kept warm over many pictures.

Nothing is compiled or captured: on a processor ``torch.compile`` makes the backbone faster by less than its own
start costs for hundreds of pictures (docs/performance.md), and on a GPU it could not be measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from client.placement import DEVICES, available_devices, place
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import CompatibilityError, InputError
from shared_model.explain import Explanation, explain
from shared_model.head import Head
from shared_model.stylize import ROWS, Options, Watch, stylize

__all__ = ["DEVICES", "PRECISIONS", "Engine", "Plan", "available_devices", "native_bf16", "plan"]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FEWEST_ROWS = 8  # of a large photo, finished at once when memory is short


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


def native_bf16(device: str) -> bool:
    """Tell whether a device computes in bfloat16 by itself: other processors and cards imitate it, slowly."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def plan(
    *,
    device: str = "auto",
    precision: str = "auto",
    available: tuple[str, ...] | None = None,
    bf16: Callable[[str], bool] = native_bf16,
) -> Plan:
    """Choose device and precision.

    With ``auto`` the backbone computes in bfloat16 where the device does so natively, else in float32. The
    backbone only corrects the draft, so a painting moves by less than half a level of 255 (docs/performance.md).
    On a processor that was measured to be faster. On CUDA no card was at hand: bfloat16 is taken there because it
    halves what is moved, runs on the tensor cores of Ampere and later, and, unlike float16, has the range of float32,
    so that no photo can overflow it. On MPS nothing could be measured and float32 stays.

    Parameters
    ----------
    device
        One of `DEVICES`; ``auto`` takes the first available one.
    precision
        One of `PRECISIONS`.
    available
        Devices to choose from; default: those of this machine.
    bf16
        Tells whether a device computes in bfloat16 natively.

    Raises
    ------
    MissingError
        If the device asked for is not there.
    InputError
        If device or precision is unknown.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
    chosen = place(device, available=available)
    if precision == "auto":
        precision = "bf16" if bf16(chosen.type) else "fp32"
    return Plan(device=chosen, dtype=_DTYPES[precision])


class Engine:
    """A backbone made ready once and used for any number of pictures and heads.

    Parameters
    ----------
    backbone
        Copied; the caller's stays as it is.
    device, precision
        See :func:`plan`.
    rows
        How many rows of a large photo are finished at once. Halved, down to 8, when memory runs out.

    Attributes
    ----------
    plan
        Where and how it computes.
    hand
        The backbone, ready there.

    Raises
    ------
    MissingError
        If the device asked for is not there.
    """

    def __init__(self, backbone: Backbone, *, device: str = "auto", precision: str = "auto", rows: int = ROWS) -> None:
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        self.plan = plan(device=device, precision=precision)
        self.rows = rows
        self.hand = _Hand(backbone.config, dtype=self.plan.dtype)
        self.hand.load_state_dict(backbone.state_dict())
        self.hand.to(self.plan.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def stylize(
        self,
        photo: Tensor,
        head: Head,
        *,
        options: Options | None = None,
        scene: Tensor | None = None,
        watch: Watch = lambda share: None,
    ) -> Tensor:
        """Paint one photo.

        Parameters
        ----------
        photo
            ``(1, 3, H, W) float in [0, 1]``, any size, on any device.
        head
            Whose taste.
        options
            How; default: :class:`shared_model.stylize.Options`.
        watch
            Called between two steps with the share that is done; an error that it raises ends the painting.

        Returns
        -------
        Tensor
            ``(1, 3, H', W') float32 in [0, 1]`` on the CPU.

        Raises
        ------
        InputError
            If there is not enough memory for a picture of this size, not even in the narrowest bands.
        CompatibilityError
            If the head was made for another backbone, or its numbers overflow.
        """
        with torch.inference_mode(), _memory_errors(self.plan.device):
            while True:
                try:
                    return self._stylize(photo, head, options=options or Options(), scene=scene, watch=watch)
                except (MemoryError, RuntimeError) as error:
                    if self.rows <= _FEWEST_ROWS or not _is_lack_of_memory(error):
                        raise
                self.rows = max(_FEWEST_ROWS, self.rows // 2)  # here, where what the failure held is free again
                if self.plan.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _stylize(self, photo: Tensor, head: Head, *, options: Options, scene: Tensor | None, watch: Watch) -> Tensor:
        place = self.plan.device
        painted = stylize(
            photo.to(place),
            head=head.to(place),
            backbone=self.hand,
            options=options,
            scene=None if scene is None else scene.to(place),
            rows=self.rows,
            watch=watch,
        )
        result = painted.float().cpu()
        if not bool(result[:, :, ::8, ::8].isfinite().all()):  # what overflows anywhere spreads everywhere
            raise CompatibilityError(
                f"nothing can be painted with {head.name or 'this head'}: its numbers are out of all proportion",
                hint="make or import the head again; `easel doctor` looks at the weights",
            )
        return result

    def explain(self, photo: Tensor, head: Head, *, options: Options | None = None) -> Explanation:
        """Take the painting of one photo apart; see :func:`shared_model.explain.explain` and :meth:`stylize`."""
        place = self.plan.device
        with torch.inference_mode(), _memory_errors(place):
            return explain(photo.to(place), head=head.to(place), backbone=self.hand, options=options)


class _Hand(Backbone):
    """A backbone that paints in another precision; weights, draft and result stay float32.

    The generator adds a correction to the draft, so only the correction is rounded.
    """

    def __init__(self, config: ModelConfig, *, dtype: torch.dtype) -> None:
        super().__init__(config)
        self.dtype = dtype

    def paint(
        self, colored: Tensor, draft: Tensor, modulation: Tensor, noise: Tensor, change: Tensor | None = None
    ) -> Tensor:
        """Like :meth:`shared_model.backbone.Backbone.paint`, with convolutions in ``dtype``."""
        lower = self.dtype != torch.float32
        with torch.autocast(colored.device.type, dtype=self.dtype, enabled=lower):
            return super().paint(colored, draft, modulation, noise, change)


@contextlib.contextmanager
def _memory_errors(device: torch.device) -> Iterator[None]:
    """Turn every way in which torch says "out of memory" into one line with a hint."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        hint = "try a smaller --size" + ("" if device.type == "cpu" else ", or --device cpu")
        raise InputError("not enough memory to paint a picture of this size", hint=hint) from error


def _is_lack_of_memory(error: Exception) -> bool:
    """Tell a lack of memory, which torch reports in four ways, from a bug."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    told = str(error).lower()
    return "out of memory" in told or "can't allocate memory" in told
