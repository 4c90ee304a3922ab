"""Where a device computes: which processors there are, and which of several GPUs is whose.

What is private stays on the CPU wherever training runs: records, differences, clip and noise (float64, which MPS
does not have).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from shared_model.errors import InputError, MissingError

__all__ = ["COMPUTE", "DEVICES", "GPUS", "available_devices", "dealt", "known", "place"]

DEVICES = ("auto", "cpu", "cuda", "mps")
GPUS = '"cuda" is a GPU by NVIDIA or AMD, "mps" one by Apple'
#: Key of a Flower node's configuration: where it computes, whatever its ``device.toml`` says.
COMPUTE = "compute"


def available_devices() -> tuple[str, ...]:
    """Return the devices of this machine, fastest first; the last is always ``cpu``."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def known(name: str) -> bool:
    """Say whether a name is one of `DEVICES`, or one GPU of several, such as ``cuda:1``."""
    kind, colon, index = name.partition(":")
    return name in DEVICES or (kind == "cuda" and bool(colon) and index.isascii() and index.isdigit())


def place(
    name: str, *, available: tuple[str, ...] | None = None, count: Callable[[], int] | None = None
) -> torch.device:
    """Return the device of a name; ``auto`` takes the first that there is.

    Parameters
    ----------
    name
        See :func:`known`.
    available
        Devices to choose from; default: those of this machine.
    count
        How many GPUs there are.

    Raises
    ------
    InputError
        If the name is unknown.
    MissingError
        If the device is not there.
    """
    if not known(name):
        raise InputError(f"unknown device {name!r}", hint=f"one of {', '.join(DEVICES)}")
    if name == "cpu":
        return torch.device(name)
    present = available_devices() if available is None else available
    chosen = torch.device(present[0] if name == "auto" else name)
    if chosen.type not in present or (chosen.index or 0) >= max(1, (count or torch.cuda.device_count)()):
        raise MissingError(
            f"there is no {name} device that torch can use here",
            hint=f"take auto or {present[0]} (--device, or `device` in a file)",
        )
    return chosen


def dealt(
    name: str,
    workers: int,
    *,
    available: tuple[str, ...] | None = None,
    count: Callable[[], int] | None = None,
) -> tuple[str, ...]:
    """Return a device for each of several workers: GPUs in turn, all else shared.

    Examples
    --------
    >>> dealt("cuda", 3, available=("cuda", "cpu"), count=lambda: 2)
    ('cuda:0', 'cuda:1', 'cuda:0')
    >>> dealt("cpu", 2)
    ('cpu', 'cpu')

    Raises
    ------
    InputError, MissingError
        See :func:`place`.
    """
    chosen = place(name, available=available, count=count)
    if chosen.type != "cuda" or ":" in name:
        return (str(chosen),) * workers
    gpus = max(1, (count or torch.cuda.device_count)())
    return tuple(f"cuda:{worker % gpus}" for worker in range(workers))
