"""What a head file must look like before anything is computed from it.

Heads travel between people, so a file may be made to harm: shapes that multiply to more memory than there is,
numbers that are none, settings that would paint for hours. Everything is compared with the configuration first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shared_model.color import TONES
from shared_model.config import HeadConfig
from shared_model.hatching import INKS, MARKS
from shared_model.hatching import TONES as TONES_OF_MARKS
from shared_model.surface import CONTRASTS, LIGHTS, VALUES

__all__ = ["BANDS", "MAX_MODULATION", "check_count", "check_tensors", "check_text"]

BANDS = 5  # Laplacian bands whose distributions a head remembers
MAX_MODULATION = 1 << 20
MAX_CHANGE = 1 << 23  # weights of a generator
_MAX_TEXT = 200
_MAX_COPY = 512  # pixels of a side of a small copy of a picture


def check_tensors(tensors: Mapping[str, Tensor], config: HeadConfig) -> None:
    """Refuse tensors that are not those of a head with this configuration.

    Raises
    ------
    ValueError, KeyError
        If a shape, a type or a value is wrong, or a tensor is missing.
    """
    fixed = {
        "color.mean": (3,),
        "color.covariance": (3, 3),
        "color.axes": (3, 3),
        "color.tones": (3, TONES),
        "surface.contrast": (BANDS, CONTRASTS),
        "surface.values": (BANDS, 3, VALUES),
    }
    for name, shape in fixed.items():
        _check_numbers(name, tensors[name], shape)
    later = {  # older heads have none
        "surface.lights": (BANDS, LIGHTS),
        "surface.tints": (BANDS, CONTRASTS),
        "surface.colors": (BANDS, 3, VALUES),
    }
    for name in later.keys() & tensors.keys():
        _check_numbers(name, tensors[name], later[name])
    if ("surface.tints" in tensors) != ("surface.colors" in tensors):
        raise ValueError("tints and colors go together")
    if config.hatch > 0:
        _check_numbers("hatching.marks", tensors["hatching.marks"], (TONES_OF_MARKS, MARKS))
        _check_numbers("hatching.inks", tensors["hatching.inks"], (INKS, 3))
    modulation = tensors["modulation"]
    _check_numbers("modulation", modulation, (modulation.numel(),))
    if modulation.numel() > MAX_MODULATION:
        raise ValueError("too many modulation numbers")
    if "change" in tensors:
        _check_change(tensors["change"])
    if any(max(copy.shape, default=0) > _MAX_COPY for name, copy in tensors.items() if name.startswith("thumbnails.")):
        raise ValueError("a small copy is large")
    flat = 3 * config.patch**2
    for index in range(config.levels):
        price, basis = tensors[f"levels.{index}.price"], tensors[f"levels.{index}.basis"]
        count, components = price.numel(), basis.shape[-1] if basis.ndim else 0
        if not (1 <= count <= config.atoms and 1 <= components <= flat):
            raise ValueError("wrong dictionary size")
        _check_numbers("price", price, (count,))
        _check_numbers("basis", basis, (flat, components))
        _check_numbers("center", tensors[f"levels.{index}.center"], (flat,))
        if not bool((price > 0).all()):
            raise ValueError("a price is not above 0")
        patches = tensors[f"levels.{index}.patches"]
        if patches.dtype != torch.uint8 or patches.shape != (count, 3, config.patch, config.patch):
            raise ValueError("wrong patches")


def check_count(value: object) -> int:
    """Return a number of pictures, or refuse it.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_000_000:
        raise ValueError("not a number of pictures")
    return value


def check_text(value: object) -> str:
    """Return a short printable text, or refuse it.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError("not a short text")
    return value


def _check_change(change: Tensor) -> None:
    if change.dtype != torch.float16 or change.ndim != 1 or not bool(change.isfinite().all()):
        raise ValueError("wrong change of the hand")
    if change.numel() > MAX_CHANGE or bool((change.abs() > 100).any()):
        raise ValueError("the change of the hand is out of all proportion")


def _check_numbers(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.dtype != torch.float32 or tensor.shape != shape or not bool(tensor.isfinite().all()):
        raise ValueError(f"wrong {name}")
    if bool((tensor.abs() > 1e9).any()):
        raise ValueError(f"{name} is out of all proportion")
