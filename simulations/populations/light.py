"""The same photos under other light: a domain shift where photos have no domains of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulations.population import Pixels

__all__ = ["LIGHTS", "lit"]

Array = NDArray[np.float32]


def _tint(*values: float) -> Array:
    return np.array(values, np.float32)


def _dusk(rgb: Array) -> Array:
    return np.asarray(rgb**1.6 * _tint(1.1, 0.75, 0.55), np.float32)


def _fog(rgb: Array) -> Array:
    gray = rgb.mean(axis=2, keepdims=True)
    return np.asarray(0.45 + 0.4 * (0.5 * rgb + 0.5 * gray), np.float32)


def _gray(rgb: Array) -> Array:
    return np.repeat(rgb @ _tint(0.299, 0.587, 0.114)[:, None], 3, axis=2)


def _night(rgb: Array) -> Array:
    noise = np.random.default_rng(rgb.size).normal(0.0, 0.03, rgb.shape)
    return np.asarray(rgb**2.0 * _tint(0.45, 0.55, 0.8) + noise, np.float32)


#: Kinds of light, in order; the first leaves a photo as it is.
LIGHTS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {"day": lambda rgb: rgb, "dusk": _dusk, "fog": _fog, "gray": _gray, "night": _night}
)


def lit(rgb: Pixels, light: str) -> Pixels:
    """Return a picture ``(H, W, 3) uint8`` as it would look in one of `LIGHTS`."""
    changed = LIGHTS[light](np.asarray(rgb / 255, np.float32))
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
